"""From a task's summary to the message: states in lower case, instants as RFC 3339 text."""

from __future__ import annotations

from datetime import datetime

from tasker.domain.dlq import ResolutionStatus
from tasker.domain.templates.document import Step, Template
from tasker.orchestration.services import render
from tasker.orchestration.services.sizing import REPLY_BYTES, within
from tasker.persistence.reading.summaries import TaskSummary
from tasker.persistence.reading.tasks import StepRecord, TaskRecord
from tasker.v1 import tasks_pb2


def summary(found: TaskSummary) -> tasks_pb2.GetTaskSummaryResponse:
    """Return all that a page about one task shows, and of its steps as much as a client reads."""
    entry = found.dlq_entry
    task_uuid = found.task.task_uuid
    reply = tasks_pb2.GetTaskSummaryResponse(
        task=_task(found.task),
        template=tasks_pb2.TaskSummaryTemplate(
            steps=[_template_step(step) for step in Template.model_validate(found.template).steps]
        ),
        dlq=tasks_pb2.DlqSummaryInfo(
            in_dlq=entry is not None and entry.resolution_status is ResolutionStatus.PENDING,
            dlq_reason=entry.dlq_reason if entry else None,
            resolution_status=entry.resolution_status if entry else None,
        ),
        links=tasks_pb2.TaskSummaryLinks(
            task=f"/v1/tasks/{task_uuid}", steps=f"/v1/tasks/{task_uuid}/workflow_steps", dlq="/v1/dlq"
        ),
    )
    room = REPLY_BYTES - reply.ByteSize()
    reply.steps.extend(within(map(_step, found.steps), room, lightened=_without_message))
    if omitted := len(found.steps) - len(reply.steps):
        reply.omitted_steps = omitted
    return reply


def _task(record: TaskRecord) -> tasks_pb2.TaskSummaryMetadata:
    counts = render.step_counts(record)
    status = counts.execution_status
    return tasks_pb2.TaskSummaryMetadata(
        task_uuid=str(record.task_uuid),
        name=record.name,
        namespace=record.namespace,
        version=record.version,
        status=record.state,
        created_at=record.created_at.isoformat(),
        updated_at=record.updated_at.isoformat(),
        completed_at=_instant(record.completed_at),
        initiator=record.initiator,
        source_system=record.source_system,
        reason=record.reason,
        correlation_id=str(record.correlation_id),
        total_steps=record.total_steps,
        pending_steps=record.pending_steps,
        in_progress_steps=record.in_progress_steps,
        completed_steps=record.satisfied_steps,
        failed_steps=record.failed_steps,
        completion_percentage=counts.completion_percentage,
        health_status=counts.health,
        execution_status=status,
        recommended_action=status.recommended_action,
        failure=render.task_failure(record),
        cancellation=render.task_cancellation(record),
    )


def _template_step(step: Step) -> tasks_pb2.TaskSummaryTemplateStep:
    return tasks_pb2.TaskSummaryTemplateStep(
        name=step.name,
        step_type=step.type,
        handler=step.handler.callable,
        dependencies=step.dependencies,
        retryable=step.retry.retryable,
        max_attempts=step.retry.max_attempts,
    )


def _step(record: StepRecord) -> tasks_pb2.StepSummaryInfo:
    return tasks_pb2.StepSummaryInfo(
        step_uuid=str(record.step_uuid),
        name=record.name,
        current_state=record.state,
        created_at=record.created_at.isoformat(),
        completed_at=_instant(record.completed_at),
        last_attempted_at=_instant(record.last_attempted_at),
        attempts=record.attempts,
        max_attempts=record.max_attempts,
        dependencies_satisfied=record.unmet_parents == 0,
        retry_eligible=render.retry_eligible(record),
        error=_error(record),
        next_retry_at=_instant(record.next_retry_at),
    )


def _without_message(step: tasks_pb2.StepSummaryInfo) -> tasks_pb2.StepSummaryInfo:
    if not step.error.message:
        return step
    light = tasks_pb2.StepSummaryInfo()
    light.CopyFrom(step)
    light.error.ClearField("message")
    light.error.message_omitted = True
    return light


def _error(record: StepRecord) -> tasks_pb2.StepErrorSummary | None:
    failure = render.step_failure(record.envelope)
    if failure is None:
        return None
    return tasks_pb2.StepErrorSummary(
        error_type=failure.error_type,
        retryable=failure.retryable,
        status_code=failure.status_code if failure.HasField("status_code") else None,
        message=failure.message,
        error_class=failure.error_class if failure.HasField("error_class") else None,
        error_code=failure.error_code if failure.HasField("error_code") else None,
    )


def _instant(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None
