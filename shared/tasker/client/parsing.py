"""From messages to records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from tasker.client.health_records import Health, HealthCheck, HealthInfo
from tasker.client.records import (
    Cancellation,
    Heartbeat,
    Step,
    StepUpdate,
    Task,
    TaskPage,
    TaskUpdate,
    WatchedUpdate,
)
from tasker.client.template_records import (
    NamespaceSummary,
    StepDefinition,
    Template,
    TemplateListing,
    TemplateSummary,
)
from tasker.domain.states import StepState, TaskState
from tasker.v1 import common_pb2, health_pb2, tasks_pb2, templates_pb2, watch_pb2

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

#: What the three probes answer.
HealthAnswer = health_pb2.HealthResponse | health_pb2.ReadinessResponse | health_pb2.DetailedHealthResponse

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
        backoff_request_seconds=_optional(message, "backoff_request_seconds"),
        created_at=_instant(message.created_at),
        updated_at=_instant(message.updated_at),
        completed_at=_optional_instant(message, "completed_at"),
        last_attempted_at=_optional_instant(message, "last_attempted_at"),
        last_failure_at=_optional_instant(message, "last_failure_at"),
        next_retry_at=_optional_instant(message, "next_retry_at"),
    )


def page(message: tasks_pb2.ListTasksResponse) -> TaskPage:
    """Return a page of a listing."""
    return TaskPage(
        tasks=tuple(task(one) for one in message.tasks),
        total=message.pagination.total,
        next_token=_optional(message.pagination, "next_page_token"),
    )


def cancellation(message: tasks_pb2.CancelTaskResponse) -> Cancellation:
    """Return what cancelling came to."""
    return Cancellation(
        task=task(message.task), success=message.success, message=_optional(message, "message")
    )


def update(
    message: tasks_pb2.TaskStatusUpdate, *, task_uuid: UUID, cursor: str | None
) -> TaskUpdate | StepUpdate | Heartbeat:
    """Return an update about a task or about one of its steps, or that there is none."""
    at = _instant(message.timestamp)
    if message.update_type == _Update.UPDATE_TYPE_UNSPECIFIED:
        return Heartbeat(at=at, cursor=cursor or "")
    if message.update_type == _Update.UPDATE_TYPE_STEP_STATE_CHANGE:
        return _step_update(message.step_update, task_uuid=task_uuid, at=at, cursor=cursor)
    return TaskUpdate(
        task_uuid=task_uuid,
        at=at,
        state=_TASK_STATES[message.task_state],
        previous_state=_TASK_STATES[message.previous_state] if message.HasField("previous_state") else None,
        is_last=message.update_type in _LAST,
        error_message=_optional(message, "error_message"),
        task=task(message.task) if message.HasField("task") else None,
        steps=tuple(_step_update(one, task_uuid=task_uuid, at=at) for one in message.steps),
        cursor=cursor,
    )


def watched_update(message: watch_pb2.WatchTasksResponse, *, cursor: str | None) -> WatchedUpdate:
    """Return an update about one of many tasks."""
    is_news = message.update.update_type != _Update.UPDATE_TYPE_UNSPECIFIED
    news = (
        update(message.update, task_uuid=UUID(message.update.task_uuid), cursor=cursor) if is_news else None
    )
    return WatchedUpdate(
        namespace=message.namespace,
        name=message.name,
        update=None if isinstance(news, Heartbeat) else news,
        at=_instant(message.update.timestamp),
        cursor=cursor,
    )


def _step_update(
    message: tasks_pb2.StepUpdate, *, task_uuid: UUID, at: datetime, cursor: str | None = None
) -> StepUpdate:
    return StepUpdate(
        task_uuid=task_uuid,
        step_uuid=UUID(message.step_uuid),
        name=message.name,
        at=at,
        state=_STEP_STATES[message.state],
        attempt=message.attempt,
        cursor=cursor,
    )


def template_listing(message: templates_pb2.ListTemplatesResponse) -> TemplateListing:
    """Return the templates there are."""
    return TemplateListing(
        templates=tuple(
            TemplateSummary(
                namespace=one.namespace,
                name=one.name,
                version=one.version,
                description=_optional(one, "description"),
                step_count=one.step_count,
            )
            for one in message.templates
        ),
        namespaces=tuple(
            NamespaceSummary(
                name=one.name, description=_optional(one, "description"), template_count=one.template_count
            )
            for one in message.namespaces
        ),
        total_count=message.total_count,
    )


def template(message: templates_pb2.TemplateDetail) -> Template:
    """Return a template."""
    return Template(
        namespace=message.namespace,
        name=message.name,
        version=message.version,
        description=_optional(message, "description"),
        steps=tuple(_step_definition(one) for one in message.steps),
        input_schema=_json_text(message, "input_schema_json"),
        configuration=_plain(message.configuration) if message.HasField("configuration") else None,
    )


def health(message: HealthAnswer) -> Health:
    """Return what a probe found."""
    at = datetime.fromisoformat(message.timestamp)
    if isinstance(message, health_pb2.HealthResponse):
        return Health(status=message.status, at=at, checks={}, info=None)
    checks = {
        field.name: HealthCheck(
            status=one.status, message=_optional(one, "message"), duration_ms=one.duration_ms
        )
        for field, one in message.checks.ListFields()
    }
    info = HealthInfo(
        version=message.info.version,
        environment=message.info.environment,
        operational_state=message.info.operational_state,
    )
    return Health(status=message.status, at=at, checks=checks, info=info)


def _step_definition(message: templates_pb2.StepDefinition) -> StepDefinition:
    return StepDefinition(
        name=message.name,
        description=_optional(message, "description"),
        step_type=message.step_type,
        dependencies=tuple(message.dependencies),
        handler=message.handler,
        retryable=message.default_retryable,
        max_attempts=message.default_max_attempts,
        timeout_seconds=_optional(message, "timeout_seconds"),
        result_schema=_json_text(message, "result_schema_json"),
    )


def _optional(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _json_text(message: Message, field: str) -> Any:
    return json.loads(getattr(message, field)) if message.HasField(field) else None


def _json(message: Message, field: str) -> Any:
    """Return a JSON object from its exact text, or from the Struct beside it where a server sends no text."""
    exact = f"{field}_json"
    if message.HasField(exact):
        return json.loads(getattr(message, exact))
    if not message.HasField(field):
        return None
    return _plain(getattr(message, field))


def _plain(message: Struct) -> Any:
    # Imported here: a service that sends the exact text leaves nothing to convert, and this costs more than the rest.
    from google.protobuf import json_format

    from tasker.domain.context import with_exact_integers

    return with_exact_integers(json_format.MessageToDict(message))


def _instant(message: Timestamp) -> datetime:
    return message.ToDatetime(UTC)


def _optional_instant(message: Message, field: str) -> datetime | None:
    return _instant(getattr(message, field)) if message.HasField(field) else None
