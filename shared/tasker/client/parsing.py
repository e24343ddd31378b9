"""From messages to records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tasker.client.records import Step, StepUpdate, Task, TaskUpdate
from tasker.domain.context import with_exact_integers
from tasker.domain.states import StepState, TaskState
from tasker.v1 import common_pb2, tasks_pb2

_TASK_STATES: Final = {
    number: TaskState(name.removeprefix("TASK_STATE_").lower())
    for name, number in common_pb2.TaskState.items()
    if number
}
_STEP_STATES: Final = {
    number: StepState(name.removeprefix("STEP_STATE_").lower())
    for name, number in common_pb2.StepState.items()
    if number
}

_Update = tasks_pb2.TaskStatusUpdate
_LAST: Final = (_Update.UPDATE_TYPE_TASK_COMPLETE, _Update.UPDATE_TYPE_TASK_ERROR)


def task(
    message: tasks_pb2.Task, *, steps: Iterable[tasks_pb2.Step] = (), already_existed: bool = False
) -> Task:
    """Return a task."""
    return Task(
        task_uuid=UUID(message.task_uuid),
        namespace=message.namespace,
        name=message.name,
        version=message.version,
        state=_TASK_STATES[message.state],
        context=_json(message, "context") or {},
        initiator=message.initiator,
        source_system=message.source_system,
        reason=message.reason,
        priority=message.priority,
        tags=tuple(message.tags),
        correlation_id=UUID(message.correlation_id),
        parent_correlation_id=UUID(message.parent_correlation_id) if message.parent_correlation_id else None,
        created_at=_instant(message.created_at),
        updated_at=_instant(message.updated_at),
        completed_at=_optional_instant(message, "completed_at"),
        total_steps=message.total_steps,
        pending_steps=message.pending_steps,
        in_progress_steps=message.in_progress_steps,
        completed_steps=message.completed_steps,
        failed_steps=message.failed_steps,
        ready_steps=message.ready_steps,
        execution_status=message.execution_status,
        recommended_action=message.recommended_action,
        completion_percentage=message.completion_percentage,
        health_status=message.health_status,
        steps=tuple(step(one) for one in steps),
        already_existed=already_existed,
    )


def step(message: tasks_pb2.Step) -> Step:
    """Return a step."""
    return Step(
        task_uuid=UUID(message.task_uuid),
        step_uuid=UUID(message.step_uuid),
        name=message.name,
        state=_STEP_STATES[message.state],
        attempts=message.attempts,
        max_attempts=message.max_attempts,
        dependencies_satisfied=message.dependencies_satisfied,
        retry_eligible=message.retry_eligible,
        ready_for_execution=message.ready_for_execution,
        total_parents=message.total_parents,
        completed_parents=message.completed_parents,
        results=_json(message, "results"),
        backoff_request_seconds=(
            message.backoff_request_seconds if message.HasField("backoff_request_seconds") else None
        ),
        created_at=_instant(message.created_at),
        updated_at=_instant(message.updated_at),
        completed_at=_optional_instant(message, "completed_at"),
        last_attempted_at=_optional_instant(message, "last_attempted_at"),
        last_failure_at=_optional_instant(message, "last_failure_at"),
        next_retry_at=_optional_instant(message, "next_retry_at"),
    )


def update(message: tasks_pb2.TaskStatusUpdate, *, task_uuid: UUID) -> TaskUpdate | StepUpdate:
    """Return an update about a task or about one of its steps."""
    at = _instant(message.timestamp)
    if message.update_type == _Update.UPDATE_TYPE_STEP_STATE_CHANGE:
        moved = message.step_update
        return StepUpdate(
            task_uuid=task_uuid,
            step_uuid=UUID(moved.step_uuid),
            name=moved.name,
            at=at,
            state=_STEP_STATES[moved.state],
            attempt=moved.attempt,
        )
    return TaskUpdate(
        task_uuid=task_uuid,
        at=at,
        state=_TASK_STATES[message.task_state],
        previous_state=_TASK_STATES[message.previous_state] if message.HasField("previous_state") else None,
        is_last=message.update_type in _LAST,
        error_message=message.error_message if message.HasField("error_message") else None,
    )


def _json(message: Message, field: str) -> Any:
    """Return a JSON object from its exact text, or from the Struct beside it where a server sends no text."""
    exact = f"{field}_json"
    if message.HasField(exact):
        return json.loads(getattr(message, exact))
    if not message.HasField(field):
        return None
    return with_exact_integers(json_format.MessageToDict(getattr(message, field)))


def _instant(message: Timestamp) -> datetime:
    return message.ToDatetime(UTC)


def _optional_instant(message: Message, field: str) -> datetime | None:
    return _instant(getattr(message, field)) if message.HasField(field) else None
