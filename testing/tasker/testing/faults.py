"""Handlers that fail on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.errors import HandlerDefinitionError, PermanentError, RetryableError
from tasker.worker.handlers.functions import function_handler
from tasker.worker.handlers.handler import Handler
from tasker.worker.handlers.registry import HandlerRegistry


def fail_n_times(
    times: int, then: Any = None, *, retryable: bool = True, name: str = "fail_n_times"
) -> Handler:
    """Return a handler that fails the first attempts of each step, for tests of what happens then.

    Args:
        times: How many attempts fail, from 0.
        then: The handler that runs the attempts after those, and whose name it takes: a decorated function, a
            `StepHandler` class (its `call`) or an instance. None returns `{"attempt": 3}` after two failures.
        retryable: Whether they fail with `RetryableError`; with `PermanentError` otherwise.
        name: What templates call it, if it takes nobody's place.

    Raises:
        HandlerDefinitionError: `times` is less than 0, or `then` is no handler.
    """
    if times < 0:
        raise HandlerDefinitionError(f"fail_n_times({times}): an attempt fails or does not; give 0 or more")
    if then is None:
        real = function_handler(_tell_attempt, name)
    else:
        registry = HandlerRegistry()
        real = registry.resolve(registry.register(then))
    error = RetryableError if retryable else PermanentError

    def call(context: StepContext) -> object:
        if context.attempt <= times:
            raise error(f"attempt {context.attempt} of {real.name!r} fails on purpose")
        return real.call(context)

    return replace(real, call=call)


def _tell_attempt(context: StepContext) -> dict[str, int]:
    return {"attempt": context.attempt}
