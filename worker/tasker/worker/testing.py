"""For tests of handlers: a context made by hand, and a run without a worker or a database (spec 30 section 12)."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import UUID

from tasker.domain.results import StepExecutionResult
from tasker.domain.uuids import uuid7
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.execution import execute
from tasker.worker.handlers.outcomes import WorkerIdentity
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.handlers.results import result_body, to_jsonable

_TESTER: Final = WorkerIdentity("worker_testing", "testing")


def make_context(
    *,
    inputs: Mapping[str, Any] | None = None,
    dependencies: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    step_inputs: Mapping[str, Any] | None = None,
    attempt: int = 1,
    max_attempts: int = 3,
    checkpoint: Mapping[str, Any] | None = None,
    step_name: str = "step",
    task_uuid: UUID | None = None,
    step_uuid: UUID | None = None,
) -> StepContext:
    """Return what a handler would see as a step of a task; everything has passed through JSON, as it would there.

    Args:
        inputs: The task's context.
        dependencies: What the handlers of earlier steps returned, by step name: models, objects, scalars.
        config: The template's `handler.initialization`.
        step_inputs: Inputs stored with the step; the configuration by default.
        attempt: Which attempt this is, from 1.
        max_attempts: How many there are in total.
        checkpoint: What the step's last checkpoint stored.
        step_name: Name of the step.
        task_uuid: The task; a new one by default.
        step_uuid: The step; a new one by default.

    Raises:
        ValueError: Something has no JSON form.
    """
    initialization = None if config is None else to_jsonable(dict(config))
    return StepContext(
        task_uuid=task_uuid or uuid7(),
        step_uuid=step_uuid or uuid7(),
        correlation_id=uuid7(),
        namespace="testing",
        step_name=step_name,
        handler_name=step_name,
        attempt=attempt,
        max_attempts=max_attempts,
        input_data=to_jsonable(dict(inputs or {})),
        step_inputs=initialization if step_inputs is None else to_jsonable(dict(step_inputs)),
        dependency_results={name: result_body(value) for name, value in (dependencies or {}).items()},
        dependencies=tuple(dependencies or ()),
        checkpoint=checkpoint,
        initialization=initialization,
    )


async def run_handler(
    handler: Any, context: StepContext | None = None, *, method: str = "call", timeout_seconds: float = 30
) -> StepExecutionResult:
    """Run a handler once, the way a worker does, and return the result that it would store.

    Arguments are injected, the return value is normalised and errors are classified by the worker's own code,
    so nothing that the handler does raises here: look at `result.success` and `result.error`.

    Args:
        handler: A decorated function, a `StepHandler` class or an instance of one.
        context: What it sees; `make_context()` by default.
        method: The method to run, of a class.
        timeout_seconds: How long it may take.

    Raises:
        HandlerDefinitionError: It is no handler, or one that cannot work.
        HandlerMethodNotFoundError: It has no such public method.
    """
    registry = HandlerRegistry()
    name = registry.register(handler)
    executor = ThreadPoolExecutor(1, thread_name_prefix="handler")
    try:
        return await execute(
            registry.resolve(name, method),
            context or make_context(),
            timeout_seconds=timeout_seconds,
            executor=executor,
            worker=_TESTER,
        )
    finally:
        executor.shutdown(wait=False)
