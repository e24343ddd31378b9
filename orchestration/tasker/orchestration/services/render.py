"""From records to messages; what clients insist on is always filled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from tasker.domain.backpressure import Pressure
from tasker.domain.results import StepExecutionResult
from tasker.domain.states import StepState, TaskState
from tasker.domain.step_counts import StepCounts
from tasker.domain.templates.document import Step, Template
from tasker.orchestration.services.sizing import CONTEXT_STRUCT_JSON_BYTES, STRUCT_JSON_BYTES
from tasker.orchestration.services.visibility import (
    context_is_visible,
    visible_backtrace,
    visible_envelope,
)
from tasker.persistence.reading.audit import AuditedStep, AuditRecord, StepIntervention
from tasker.persistence.reading.tasks import StepRecord, TaskRecord
from tasker.persistence.reading.templates import NamespaceSummary, TemplateSummary
from tasker.v1 import common_pb2, failures_pb2, interventions_pb2, steps_pb2, tasks_pb2, templates_pb2

#: A message nests at most 100 levels when parsed, and each level of JSON takes three of a Struct.
_MAX_DEPTH: Final = 30

#: Of HTTP; a worker may say anything, and not all of it fits.
_STATUS_CODES: Final = range(1000)

TASK_STATES: Final = {
    name.removeprefix("TASK_STATE_").lower(): number for name, number in common_pb2.TaskState.items()
}
STEP_STATES: Final = {
    name.removeprefix("STEP_STATE_").lower(): number for name, number in common_pb2.StepState.items()
}


def task(record: TaskRecord, *, with_context: bool = True) -> tasks_pb2.Task:
    """Return a task with its counts; with its context only if that is for the caller."""
    with_context = with_context and context_is_visible()
    counts = step_counts(record)
    status = counts.execution_status
    context, context_json = _json(record.context) if with_context else (None, None)
    return tasks_pb2.Task(
        task_uuid=str(record.task_uuid),
        name=record.name,
        namespace=record.namespace,
        version=record.version,
        state=TASK_STATES[record.state],
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        completed_at=optional_timestamp(record.completed_at),
        context=context,
        context_json=context_json,
        initiator=record.initiator,
        source_system=record.source_system,
        reason=record.reason,
        priority=record.priority,
        tags=record.tags,
        correlation_id=str(record.correlation_id),
        parent_correlation_id=str(record.parent_correlation_id) if record.parent_correlation_id else None,
        total_steps=record.total_steps,
        pending_steps=record.pending_steps,
        in_progress_steps=record.in_progress_steps,
        completed_steps=record.satisfied_steps,
        failed_steps=record.failed_steps,
        ready_steps=record.ready_steps,
        execution_status=status.value,
        recommended_action=status.recommended_action,
        completion_percentage=counts.completion_percentage,
        health_status=counts.health.value,
        failure=task_failure(record),
        cancellation=task_cancellation(record),
    )


def step_counts(record: TaskRecord) -> StepCounts:
    """Return the counts of a task's steps, from which follows what it is doing."""
    return StepCounts(
        total=record.total_steps,
        completed=record.satisfied_steps,
        failed=record.failed_steps,
        in_flight=record.in_flight_steps,
        waiting_for_retry=record.backoff_steps,
        ready=record.ready_steps,
    )


def task_failure(record: TaskRecord) -> failures_pb2.TaskFailure | None:
    """Return why a task does not get on or ended in error; None if it does, or ended otherwise."""
    step, ending = record.failing_step, record.ending
    in_error = record.state is TaskState.ERROR
    if step is None and not in_error:
        return None
    said = ending.reason if ending is not None and in_error else None
    retrying = step is not None and step.state is StepState.WAITING_FOR_RETRY
    failure = failures_pb2.TaskFailure(cause=said or ("step_retrying" if retrying else "step_failed"))
    if step is not None:
        failure.step_uuid = str(step.step_uuid)
        failure.step_name = step.name
        failure.step_state = STEP_STATES[step.state]
        failure.attempts = step.attempts
        failure.max_attempts = step.max_attempts
        if step.next_retry_at is not None:
            failure.next_retry_at.FromDatetime(step.next_retry_at)
        if step.result is not None:
            failure.step_failure.CopyFrom(_failure(step.result))
    return failure


def task_cancellation(record: TaskRecord) -> failures_pb2.TaskCancellation | None:
    """Return why a task was cancelled; None if it was not."""
    ending = record.ending
    if ending is None or record.state is not TaskState.CANCELLED:
        return None
    return failures_pb2.TaskCancellation(
        cancelled_at=timestamp(ending.at), reason=ending.reason, requested_by=ending.requested_by
    )


def step(record: StepRecord) -> tasks_pb2.Step:
    """Return a step with its readiness and its stored result."""
    may_retry = retry_eligible(record)
    envelope = visible_envelope(record.envelope)
    due = record.next_retry_at is None or record.next_retry_at <= record.read_at
    waiting = record.state.may_become_ready
    results, results_json = _json(None if record.results_omitted else envelope)
    return tasks_pb2.Step(
        step_uuid=str(record.step_uuid),
        task_uuid=str(record.task_uuid),
        name=record.name,
        state=STEP_STATES[record.state],
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        completed_at=optional_timestamp(record.completed_at),
        results=results,
        results_json=results_json,
        results_omitted=record.results_omitted or None,
        dependencies_satisfied=record.unmet_parents == 0,
        retry_eligible=may_retry,
        ready_for_execution=waiting and record.unmet_parents == 0 and may_retry and due,
        total_parents=record.total_parents,
        completed_parents=record.total_parents - record.unmet_parents,
        attempts=record.attempts,
        max_attempts=record.max_attempts,
        last_failure_at=optional_timestamp(record.last_failure_at),
        next_retry_at=optional_timestamp(record.next_retry_at),
        last_attempted_at=optional_timestamp(record.last_attempted_at),
        backoff_request_seconds=record.backoff_request_seconds,
        failure=step_failure(record.envelope),
    )


def retry_eligible(record: StepRecord) -> bool:
    """Return whether a step was never tried, or has attempts left."""
    return record.attempts == 0 or (record.retryable and record.attempts < record.max_attempts)


def step_failure(envelope: Mapping[str, Any] | None) -> failures_pb2.StepFailure | None:
    """Return why a result, whole or in brief, is a failure; None if it is none."""
    if envelope is None or envelope.get("success"):
        return None
    result = StepExecutionResult.from_json(envelope)
    return _failure(result) if result is not None else None


def audit_record(
    task_uuid: UUID, step_uuid: UUID, step: AuditedStep, record: AuditRecord
) -> steps_pb2.StepAuditRecord:
    """Return a result that a worker submitted."""
    value = record.envelope["result"]
    result_json = _json_text(value)
    return steps_pb2.StepAuditRecord(
        # Results and transitions have keys of their own and no uuids: theirs follow from these.
        audit_uuid=str(uuid5(step_uuid, f"result {record.sort_key}")),
        step_uuid=str(step_uuid),
        transition_uuid=str(uuid5(step_uuid, f"transition {record.sort_key}")),
        task_uuid=str(task_uuid),
        recorded_at=timestamp(record.recorded_at),
        worker_uuid=str(record.worker_uuid) if record.worker_uuid else None,
        correlation_id=str(step.correlation_id),
        success=record.success,
        execution_time_ms=record.execution_time_ms,
        result=_struct_beside(value if isinstance(value, Mapping) else {"value": value}, result_json),
        step_name=step.step_name,
        from_state=STEP_STATES[record.from_state],
        to_state=STEP_STATES[record.to_state],
        result_json=result_json,
        attempt=record.attempt,
        failure=step_failure(record.envelope),
    )


def intervention(record: StepIntervention) -> interventions_pb2.StepIntervention:
    """Return what an operator did to a step."""
    return interventions_pb2.StepIntervention(
        intervened_at=timestamp(record.intervened_at),
        action=record.action,
        performed_by=record.performed_by,
        reason=record.reason,
        from_state=STEP_STATES[record.from_state],
        to_state=STEP_STATES[record.to_state],
    )


def namespace_summary(summary: NamespaceSummary) -> templates_pb2.NamespaceSummary:
    """Return a namespace in a listing."""
    return templates_pb2.NamespaceSummary(
        name=summary.name, description=summary.description, template_count=summary.template_count
    )


def template_summary(summary: TemplateSummary) -> templates_pb2.TemplateSummary:
    """Return a template version in a listing."""
    return templates_pb2.TemplateSummary(
        name=summary.name,
        namespace=summary.namespace,
        version=summary.version,
        description=summary.description,
        step_count=summary.step_count,
    )


def template(document: Template) -> templates_pb2.TemplateDetail:
    """Return a template version with its whole document, steps in the document's order."""
    return templates_pb2.TemplateDetail(
        name=document.name,
        namespace=document.namespace_name,
        version=document.version,
        description=document.description,
        configuration=_json(document.to_json())[0],
        steps=[_step_definition(step) for step in document.steps],
        input_schema_json=_optional_json_text(document.input_schema),
    )


def backpressure(pressure: Pressure) -> common_pb2.BackpressureStatus:
    """Return that much waits; the caller has not been refused."""
    return common_pb2.BackpressureStatus(
        active=True, reason=pressure.reason, queue_depth=pressure.depth, max_queue_depth=pressure.limit
    )


def task_context(record: TaskRecord, steps: list[StepRecord]) -> tasks_pb2.TaskContext | None:
    """Return the inputs, the results of the completed steps by name, and both merged; None if not for the caller."""
    if not context_is_visible():
        return None
    complete = [step for step in steps if step.state is StepState.COMPLETE]
    outputs = {
        step.name: step.envelope["result"]
        for step in complete
        if step.envelope is not None and not step.results_omitted
    }
    inputs_json, outputs_json = _json_text(record.context), _json_text(outputs)
    context = tasks_pb2.TaskContext(
        inputs_json=inputs_json,
        outputs_json=outputs_json,
        outputs_omitted=[step.name for step in complete if step.results_omitted],
    )
    if len((inputs_json + outputs_json).encode()) <= CONTEXT_STRUCT_JSON_BYTES:
        context.inputs.CopyFrom(struct(record.context))
        context.outputs.CopyFrom(struct(outputs))
        context.merged.CopyFrom(struct({**record.context, **outputs}))
    return context


def struct(value: Mapping[str, Any]) -> Struct:
    """Return a JSON object as a Struct; its numbers are doubles, the exact ones are in the `_json` field.

    What no client could decode (a number beyond the doubles, nesting beyond protobuf's limit) is left out here.
    """
    message = Struct()
    try:
        message.update(_decodable(value, _MAX_DEPTH))
    except OverflowError:
        message.Clear()
    return message


def timestamp(instant: datetime) -> Timestamp:
    """Return an instant."""
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def optional_timestamp(instant: datetime | None) -> Timestamp | None:
    """Return an instant, if there is one."""
    return timestamp(instant) if instant is not None else None


def _step_definition(step: Step) -> templates_pb2.StepDefinition:
    return templates_pb2.StepDefinition(
        name=step.name,
        description=step.description,
        default_retryable=step.retry.retryable,
        default_max_attempts=step.retry.max_attempts,
        dependencies=step.dependencies,
        handler=step.handler.callable,
        step_type=step.type.value,
        result_schema_json=_optional_json_text(step.result_schema),
        timeout_seconds=step.timeout_seconds,
    )


def _failure(result: StepExecutionResult) -> failures_pb2.StepFailure:
    error, metadata = result.error, result.metadata
    error_class = metadata.context.get("exception_class")
    status_code = error.status_code if error else None
    return failures_pb2.StepFailure(
        error_type=(error.error_type if error else metadata.error_type) or "",
        message=error.message if error else "",
        error_class=error_class if isinstance(error_class, str) else None,
        error_code=metadata.error_code,
        retryable=error.retryable if error else metadata.retryable,
        status_code=status_code if status_code in _STATUS_CODES else None,
        backtrace=visible_backtrace(error.backtrace) if error else (),
    )


def _json(value: Mapping[str, Any] | None) -> tuple[Struct | None, str | None]:
    """Return a JSON object as a Struct, unless that is too large, and as text."""
    if value is None:
        return None, None
    text = _json_text(value)
    return _struct_beside(value, text), text


def _struct_beside(value: Mapping[str, Any], text: str) -> Struct | None:
    """Return a JSON object as a Struct, unless the text beside it is so large that it has to do."""
    return struct(value) if len(text.encode()) <= STRUCT_JSON_BYTES else None


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _optional_json_text(value: Any) -> str | None:
    return _json_text(value) if value is not None else None


def _decodable(value: Any, depth: int) -> Any:
    """Return a JSON value cut off below `depth` levels."""
    if isinstance(value, Mapping):
        return {key: _decodable(item, depth - 1) for key, item in value.items()} if depth else None
    if isinstance(value, list):
        return [_decodable(item, depth - 1) for item in value] if depth else None
    return value
