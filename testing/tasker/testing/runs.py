"""Runs of one handler by the code of a worker, without a worker or a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from tasker.domain.results import StepExecutionResult
from tasker.testing.contexts import make_context
from tasker.worker.handlers.attempts import WorkerIdentity, Yielded
from tasker.worker.handlers.context import CancelSignal, StepContext
from tasker.worker.handlers.execution import Execution
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.handlers.sealing import SealedResult
from tasker.worker.handlers.threads import HandlerThreads

_TESTER: Final = WorkerIdentity("worker_testing", "testing")


@dataclass(frozen=True, slots=True)
class HandlerRun:
    """What became of a step: the result of each attempt, and what its handler yielded on the way.

    Attributes:
        results: One for each attempt, in their order.
        checkpoints: All that were stored, as they were.
    """

    results: tuple[StepExecutionResult, ...]
    checkpoints: tuple[Mapping[str, Any], ...]

    @property
    def result(self) -> StepExecutionResult:
        """What the step ended with."""
        return self.results[-1]

    @property
    def attempts(self) -> int:
        """How many there were."""
        return len(self.results)


async def run_handler(
    handler: Any,
    context: StepContext | None = None,
    *,
    method: str = "call",
    timeout_seconds: float = 30,
    on_checkpoint: Callable[[Mapping[str, Any]], object] | None = None,
) -> StepExecutionResult:
    """Run a handler the way a worker does, and return the result that it would store.

    Arguments are injected, the return value is normalised and errors are classified by the worker's own code,
    so nothing that the handler does raises here: look at `result.success` and `result.error`. A handler that yields a
    checkpoint is run again from there until it is done, or yields the same place twice.

    Args:
        handler: A decorated function, a `StepHandler` class or an instance of one.
        context: What it sees; `make_context()` by default.
        method: The method to run, of a class.
        timeout_seconds: How long each run may take.
        on_checkpoint: Called with each checkpoint as it would be stored, such as the `append` of a list. What it raises
            ends the run, as the loss of a worker would.

    Raises:
        HandlerDefinitionError: It is no handler, or one that cannot work.
        HandlerMethodNotFoundError: It has no such public method.
    """
    registry = HandlerRegistry()
    resolved = registry.resolve(registry.register(handler), method)
    context = context or make_context()
    executor = HandlerThreads(1, thread_name_prefix="handler")
    try:
        while True:
            execution = Execution(
                resolved, _anew(context), timeout_seconds=timeout_seconds, executor=executor, worker=_TESTER
            )
            end = await execution.end()
            if isinstance(end, SealedResult):
                return end.result
            if (stalled := end.stalled(context.checkpoint)) is not None:
                return stalled.result
            checkpoint = _stored(context.checkpoint, end)
            if on_checkpoint is not None:
                on_checkpoint(checkpoint)
            context = replace(context, checkpoint=checkpoint, cancelled=CancelSignal())
    finally:
        executor.shutdown(wait=False)


async def run_to_completion(
    handler: Any,
    context: StepContext | None = None,
    *,
    method: str = "call",
    timeout_seconds: float = 30,
) -> HandlerRun:
    """Run a handler until its step is over: on from its checkpoints, and again after retryable failures.

    Each attempt begins at the last checkpoint, as in the engine. Nothing waits between attempts.

    Args:
        handler: A decorated function, a `StepHandler` class or an instance of one.
        context: What the first attempt sees; `make_context()` by default. Its `max_attempts` says when to give up.
        method: The method to run, of a class.
        timeout_seconds: How long each run may take.

    Raises:
        HandlerDefinitionError: It is no handler, or one that cannot work.
        HandlerMethodNotFoundError: It has no such public method.
    """
    context = context or make_context()
    checkpoints: list[Mapping[str, Any]] = []
    results: list[StepExecutionResult] = []
    while True:
        result = await run_handler(
            handler,
            context,
            method=method,
            timeout_seconds=timeout_seconds,
            on_checkpoint=checkpoints.append,
        )
        results.append(result)
        if result.success or not result.metadata.retryable or context.attempt >= context.max_attempts:
            return HandlerRun(tuple(results), tuple(checkpoints))
        last = checkpoints[-1] if checkpoints else context.checkpoint
        context = replace(context, attempt=context.attempt + 1, checkpoint=last)


def _anew(context: StepContext) -> StepContext:
    """Return a context whose data is its own: what one run changes in place, the next one must not see."""
    return replace(
        context,
        input_data=_copy(context.input_data),
        step_inputs=_copy(context.step_inputs),
        dependency_results=_copy(context.dependency_results),
        checkpoint=_copy(context.checkpoint),
        initialization=_copy(context.initialization),
    )


def _copy(value: Any) -> Any:
    """Return a copy of plain data; what else a test put into it, such as a mock, stays the same."""
    if type(value) is dict:
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if type(value) is list else value


def _stored(before: Mapping[str, Any] | None, yielded: Yielded) -> dict[str, Any]:
    """Return what `checkpoint_step_v1` would store."""
    checkpoint: dict[str, Any] = json.loads(yielded.checkpoint)
    now = datetime.now(UTC).isoformat()
    entry = {"cursor": checkpoint["cursor"], "timestamp": now}
    return checkpoint | {"timestamp": now, "history": [*(before or {}).get("history", []), entry][-100:]}
