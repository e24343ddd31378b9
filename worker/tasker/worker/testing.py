"""For tests of handlers: a context made by hand, and a run without a worker or a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.results import StepExecutionResult
from tasker.domain.uuids import uuid7
from tasker.worker.handlers.attempts import WorkerIdentity, Yielded
from tasker.worker.handlers.context import CancelSignal, StepContext
from tasker.worker.handlers.cursors import Cursor, CursorConfig
from tasker.worker.handlers.execution import Execution
from tasker.worker.handlers.jsonable import to_jsonable
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.handlers.results import result_body
from tasker.worker.handlers.sealing import SealedResult
from tasker.worker.handlers.threads import HandlerThreads

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
    batch_size: int | None = None,
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
        batch_size: The template's `batch_config.batch_size`, for the analyzer of a batch.

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
        batch_size=batch_size,
    )


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


def batch_inputs(
    start_cursor: Cursor,
    end_cursor: Cursor,
    *,
    batch_id: str = "001",
    batch_size: int | None = None,
    cursor_field: str = "id",
    failure_strategy: str = "fail_fast",
) -> dict[str, Any]:
    """Return the inputs of an instance of a batch worker, for `make_context(step_inputs=...)`.

    Args:
        start_cursor: The first item.
        end_cursor: Where the share ends, this one excluded.
        batch_id: Which instance it is.
        batch_size: How many items there are; the distance of the cursors by default, where those are numbers.
        cursor_field: The template's `batch_config.cursor_field`.
        failure_strategy: The template's `batch_config.failure_strategy`.
    """
    if batch_size is None:
        batch_size = 1
        if isinstance(start_cursor, int) and isinstance(end_cursor, int):
            batch_size = end_cursor - start_cursor
    config = CursorConfig(batch_id, start_cursor, end_cursor, batch_size)
    return _instance(config, cursor_field, failure_strategy, is_no_op=False)


def no_op_inputs() -> dict[str, Any]:
    """Return the inputs of the one instance of a batch without items, for `make_context(step_inputs=...)`."""
    return _instance(CursorConfig("000", 0, 0, 0), "id", "fail_fast", is_no_op=True)


def _instance(
    config: CursorConfig, cursor_field: str, failure_strategy: str, *, is_no_op: bool
) -> dict[str, Any]:
    return {
        "cursor": config.to_json(),
        "batch_metadata": {"cursor_field": cursor_field, "failure_strategy": failure_strategy},
        "is_no_op": is_no_op,
    }


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
