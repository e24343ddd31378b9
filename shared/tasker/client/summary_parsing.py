"""From messages about one task as a whole to records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from tasker.client import parsing
from tasker.client.fields import json_value, optional, optional_time
from tasker.client.summary_records import StepErrorSummary, StepSummary, TaskContext, TaskSummary
from tasker.client.template_records import StepDefinition
from tasker.domain.dlq import DlqReason, ResolutionStatus
from tasker.domain.states import StepState, TaskState
from tasker.v1 import tasks_pb2


def task_context(message: tasks_pb2.TaskContext, fetched: Mapping[str, Any]) -> TaskContext:
    """Return a task's inputs and outputs, with those that were fetched besides."""
    return TaskContext(
        inputs=json_value(message, "inputs") or {},
        outputs={**(json_value(message, "outputs") or {}), **fetched},
    )


def task_summary(message: tasks_pb2.GetTaskSummaryResponse) -> TaskSummary:
    """Return the summary of a task."""
    task, dlq, links = message.task, message.dlq, message.links
    return TaskSummary(
        task_uuid=UUID(task.task_uuid),
        namespace=task.namespace,
        name=task.name,
        version=task.version,
        state=TaskState(task.status),
        initiator=task.initiator,
        source_system=task.source_system,
        reason=task.reason,
        correlation_id=UUID(task.correlation_id),
        created_at=datetime.fromisoformat(task.created_at),
        updated_at=datetime.fromisoformat(task.updated_at),
        completed_at=optional_time(task, "completed_at"),
        total_steps=task.total_steps,
        pending_steps=task.pending_steps,
        in_progress_steps=task.in_progress_steps,
        completed_steps=task.completed_steps,
        failed_steps=task.failed_steps,
        execution_status=task.execution_status,
        recommended_action=optional(task, "recommended_action"),
        completion_percentage=task.completion_percentage,
        health_status=task.health_status,
        failure=parsing.task_failure(task.failure) if task.HasField("failure") else None,
        cancellation=parsing.task_cancellation(task.cancellation) if task.HasField("cancellation") else None,
        template_steps=tuple(_template_step(step) for step in message.template.steps),
        steps=tuple(_step(step) for step in message.steps),
        in_dlq=dlq.in_dlq,
        dlq_reason=DlqReason(dlq.dlq_reason) if dlq.HasField("dlq_reason") else None,
        dlq_status=ResolutionStatus(dlq.resolution_status) if dlq.HasField("resolution_status") else None,
        links={"task": links.task, "steps": links.steps, "dlq": links.dlq},
        omitted_steps=message.omitted_steps,
    )


def _template_step(message: tasks_pb2.TaskSummaryTemplateStep) -> StepDefinition:
    return StepDefinition(
        name=message.name,
        description=None,
        step_type=message.step_type,
        dependencies=tuple(message.dependencies),
        handler=message.handler,
        retryable=message.retryable,
        max_attempts=message.max_attempts,
        timeout_seconds=None,
        result_schema=None,
    )


def _step(message: tasks_pb2.StepSummaryInfo) -> StepSummary:
    return StepSummary(
        step_uuid=UUID(message.step_uuid),
        name=message.name,
        state=StepState(message.current_state),
        attempts=message.attempts,
        max_attempts=message.max_attempts,
        dependencies_satisfied=message.dependencies_satisfied,
        retry_eligible=message.retry_eligible,
        error=_error(message.error) if message.HasField("error") else None,
        created_at=optional_time(message, "created_at"),
        completed_at=optional_time(message, "completed_at"),
        last_attempted_at=optional_time(message, "last_attempted_at"),
        next_retry_at=optional_time(message, "next_retry_at"),
    )


def _error(message: tasks_pb2.StepErrorSummary) -> StepErrorSummary:
    return StepErrorSummary(
        error_type=optional(message, "error_type"),
        message=optional(message, "message"),
        error_class=optional(message, "error_class"),
        error_code=optional(message, "error_code"),
        retryable=message.retryable,
        status_code=optional(message, "status_code"),
        message_omitted=message.message_omitted,
    )
