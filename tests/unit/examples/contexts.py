"""What the handlers of the examples are called with here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tasker.worker import BatchWorkerContext, CursorConfig, StepContext, StepHandler


def context(
    inputs: Mapping[str, Any], dependencies: tuple[str, ...] = (), **results: Mapping[str, Any]
) -> StepContext:
    """Return the context of a step."""
    return StepContext(
        task_uuid=UUID(int=1),
        step_uuid=UUID(int=2),
        correlation_id=UUID(int=3),
        namespace="examples",
        step_name="step",
        handler_name="handler",
        input_data=inputs,
        dependencies=dependencies,
        dependency_results=results,
    )


def result(handler: StepHandler, context: StepContext) -> dict[str, Any]:
    """Return what a class's `call` returns, which must be an object."""
    returned = handler.call(context)
    assert isinstance(returned, dict)
    return returned


def share(start: int, end: int, *, batch_id: str = "001", **checkpoint: Any) -> BatchWorkerContext:
    """Return an instance's share of a batch, and what its last checkpoint stored."""
    config = CursorConfig(batch_id, start, end, end - start)
    return BatchWorkerContext(batch_id=batch_id, cursor_config=config, **checkpoint)


def stored_share(start: int, end: int, *, batch_id: str = "001") -> dict[str, Any]:
    """Return the inputs that an instance is created with; from 0 to 0 it is the placeholder."""
    cursor = CursorConfig(batch_id, start, end, end - start).to_json()
    return {"cursor": cursor, "batch_metadata": {}, "is_no_op": start == end}
