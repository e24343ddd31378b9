"""Contexts made by hand: what a handler sees of its step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tasker.domain.uuids import uuid7
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.cursors import Cursor, CursorConfig
from tasker.worker.handlers.jsonable import to_jsonable
from tasker.worker.handlers.results import result_body


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
