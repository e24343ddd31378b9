"""From messages to records."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from tasker.client.failure_records import StepFailure, TaskCancellation, TaskFailure
from tasker.client.fields import instant, json_text, json_value, optional, optional_instant, plain
from tasker.client.health_records import Health, HealthCheck, HealthInfo
from tasker.client.records import (
    Cancellation,
    Heartbeat,
    Step,
    StepAuditRecord,
    StepIntervention,
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
from tasker.v1 import (
    common_pb2,
    failures_pb2,
    health_pb2,
    interventions_pb2,
    steps_pb2,
    tasks_pb2,
    templates_pb2,
    watch_pb2,
)

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
        context=json_value(message, "context") or {},
        initiator=message.initiator,
        source_system=message.source_system,
        reason=message.reason,
        priority=message.priority,
        tags=tuple(message.tags),
        correlation_id=UUID(message.correlation_id),
        parent_correlation_id=UUID(message.parent_correlation_id) if message.parent_correlation_id else None,
        created_at=instant(message.created_at),
        updated_at=instant(message.updated_at),
        completed_at=optional_instant(message, "completed_at"),
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
        failure=task_failure(message.failure) if message.HasField("failure") else None,
        cancellation=task_cancellation(message.cancellation) if message.HasField("cancellation") else None,
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
        results=json_value(message, "results"),
        backoff_request_seconds=optional(message, "backoff_request_seconds"),
        created_at=instant(message.created_at),
        updated_at=instant(message.updated_at),
        completed_at=optional_instant(message, "completed_at"),
        last_attempted_at=optional_instant(message, "last_attempted_at"),
        last_failure_at=optional_instant(message, "last_failure_at"),
        next_retry_at=optional_instant(message, "next_retry_at"),
        failure=step_failure(message.failure) if message.HasField("failure") else None,
    )


def task_failure(message: failures_pb2.TaskFailure) -> TaskFailure:
    """Return why a task does not get on or ended in error."""
    return TaskFailure(
        cause=message.cause,
        step_uuid=UUID(message.step_uuid) if message.HasField("step_uuid") else None,
        step_name=optional(message, "step_name"),
        step_state=_STEP_STATES[message.step_state] if message.HasField("step_state") else None,
        attempts=optional(message, "attempts"),
        max_attempts=optional(message, "max_attempts"),
        next_retry_at=optional_instant(message, "next_retry_at"),
        step_failure=step_failure(message.step_failure) if message.HasField("step_failure") else None,
    )


def task_cancellation(message: failures_pb2.TaskCancellation) -> TaskCancellation:
    """Return why a task was cancelled."""
    return TaskCancellation(
        cancelled_at=instant(message.cancelled_at),
        reason=optional(message, "reason"),
        requested_by=optional(message, "requested_by"),
    )


def step_failure(message: failures_pb2.StepFailure) -> StepFailure:
    """Return why an attempt at a step failed."""
    return StepFailure(
        error_type=message.error_type,
        message=message.message,
        error_class=optional(message, "error_class"),
        error_code=optional(message, "error_code"),
        retryable=message.retryable,
        status_code=optional(message, "status_code"),
        backtrace=tuple(message.backtrace),
    )


def audit_record(message: steps_pb2.StepAuditRecord) -> StepAuditRecord:
    """Return a result that a worker submitted."""
    return StepAuditRecord(
        audit_uuid=UUID(message.audit_uuid),
        transition_uuid=UUID(message.transition_uuid),
        task_uuid=UUID(message.task_uuid),
        step_uuid=UUID(message.step_uuid),
        step_name=message.step_name,
        recorded_at=instant(message.recorded_at),
        worker_uuid=UUID(message.worker_uuid) if message.HasField("worker_uuid") else None,
        correlation_id=UUID(message.correlation_id) if message.HasField("correlation_id") else None,
        attempt=optional(message, "attempt"),
        success=message.success,
        execution_time_ms=optional(message, "execution_time_ms"),
        result=json_value(message, "result"),
        failure=step_failure(message.failure) if message.HasField("failure") else None,
        from_state=_STEP_STATES[message.from_state] if message.HasField("from_state") else None,
        to_state=_STEP_STATES[message.to_state],
    )


def intervention(message: interventions_pb2.StepIntervention) -> StepIntervention:
    """Return what an operator did to a step."""
    return StepIntervention(
        intervened_at=instant(message.intervened_at),
        action=message.action,
        performed_by=optional(message, "performed_by"),
        reason=optional(message, "reason"),
        from_state=_STEP_STATES[message.from_state],
        to_state=_STEP_STATES[message.to_state],
    )


def page(message: tasks_pb2.ListTasksResponse) -> TaskPage:
    """Return a page of a listing."""
    return TaskPage(
        tasks=tuple(task(one) for one in message.tasks),
        total=message.pagination.total,
        next_token=optional(message.pagination, "next_page_token"),
    )


def cancellation(message: tasks_pb2.CancelTaskResponse) -> Cancellation:
    """Return what cancelling came to."""
    return Cancellation(
        task=task(message.task), success=message.success, message=optional(message, "message")
    )


def update(
    message: tasks_pb2.TaskStatusUpdate, *, task_uuid: UUID, cursor: str | None
) -> TaskUpdate | StepUpdate | Heartbeat:
    """Return an update about a task or about one of its steps, or that there is none."""
    at = instant(message.timestamp)
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
        error_message=optional(message, "error_message"),
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
        at=instant(message.update.timestamp),
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
                description=optional(one, "description"),
                step_count=one.step_count,
            )
            for one in message.templates
        ),
        namespaces=tuple(
            NamespaceSummary(
                name=one.name, description=optional(one, "description"), template_count=one.template_count
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
        description=optional(message, "description"),
        steps=tuple(_step_definition(one) for one in message.steps),
        input_schema=json_text(message, "input_schema_json"),
        configuration=plain(message.configuration) if message.HasField("configuration") else None,
    )


def health(message: HealthAnswer) -> Health:
    """Return what a probe found."""
    at = datetime.fromisoformat(message.timestamp)
    if isinstance(message, health_pb2.HealthResponse):
        return Health(status=message.status, at=at, checks={}, info=None)
    checks = {
        field.name: HealthCheck(
            status=one.status, message=optional(one, "message"), duration_ms=one.duration_ms
        )
        for field, one in message.checks.ListFields()
    }
    info = HealthInfo(
        version=message.info.version,
        environment=message.info.environment,
        operational_state=message.info.operational_state,
        paused_namespaces=tuple(message.info.paused_namespaces),
    )
    return Health(status=message.status, at=at, checks=checks, info=info)


def _step_definition(message: templates_pb2.StepDefinition) -> StepDefinition:
    return StepDefinition(
        name=message.name,
        description=optional(message, "description"),
        step_type=message.step_type,
        dependencies=tuple(message.dependencies),
        handler=message.handler,
        retryable=message.default_retryable,
        max_attempts=message.default_max_attempts,
        timeout_seconds=optional(message, "timeout_seconds"),
        result_schema=json_text(message, "result_schema_json"),
    )
