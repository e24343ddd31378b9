"""What the client makes of messages: every field, exact numbers, no guess where a field is absent."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from tasker.client import StepState, StepUpdate, TaskState, TaskUpdate, parsing
from tasker.v1 import common_pb2, failures_pb2, steps_pb2, tasks_pb2
from tests.unit.client.scripted import STEP, TASK, step_message, task_message

CAUSE = UUID("01980000-0000-7000-8000-000000000004")
NOON = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)

HUGE = 2**63 + 1  # no double holds it

FAILURE = failures_pb2.StepFailure(
    error_type="permanent_error",
    message="no money",
    error_class="CardDeclined",
    error_code="CARD_DECLINED",
    retryable=True,
    status_code=402,
    backtrace=["File one", "File two"],
)
FAILURE_AS_RECORD = {
    "error_type": "permanent_error",
    "message": "no money",
    "error_class": "CardDeclined",
    "error_code": "CARD_DECLINED",
    "retryable": True,
    "status_code": 402,
    "backtrace": ("File one", "File two"),
}


def struct(**values: Any) -> Struct:
    message = Struct()
    message.update(values)
    return message


def at(seconds: float = 0) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(NOON + timedelta(seconds=seconds))
    return message


def test_every_field_of_a_task_arrives() -> None:
    message = task_message(
        namespace="shop",
        name="checkout",
        version="1.2.0",
        state=common_pb2.TASK_STATE_COMPLETE,
        context_json=f'{{"number": {HUGE}}}',
        context=struct(number=float(HUGE)),
        initiator="ada",
        source_system="web",
        reason="because",
        priority=7,
        tags=["a", "b"],
        parent_correlation_id=str(CAUSE),
        created_at=at(0),
        updated_at=at(1),
        completed_at=at(2),
        total_steps=6,
        pending_steps=1,
        in_progress_steps=2,
        completed_steps=3,
        failed_steps=4,
        ready_steps=5,
        execution_status="all_complete",
        recommended_action="finalize_task",
        completion_percentage=12.5,
        health_status="healthy",
        failure=failures_pb2.TaskFailure(
            cause="step_retrying",
            step_uuid=str(STEP),
            step_name="pay",
            step_state=common_pb2.STEP_STATE_WAITING_FOR_RETRY,
            attempts=1,
            max_attempts=3,
            next_retry_at=at(3),
            step_failure=FAILURE,
        ),
        cancellation=failures_pb2.TaskCancellation(cancelled_at=at(4), reason="late", requested_by="bob"),
    )
    assert dataclasses.asdict(parsing.task(message, already_existed=True)) == {
        "task_uuid": TASK,
        "namespace": "shop",
        "name": "checkout",
        "version": "1.2.0",
        "state": TaskState.COMPLETE,
        "context": {"number": HUGE},
        "initiator": "ada",
        "source_system": "web",
        "reason": "because",
        "priority": 7,
        "tags": ("a", "b"),
        "correlation_id": TASK,
        "parent_correlation_id": CAUSE,
        "created_at": NOON,
        "updated_at": NOON + timedelta(seconds=1),
        "completed_at": NOON + timedelta(seconds=2),
        "total_steps": 6,
        "pending_steps": 1,
        "in_progress_steps": 2,
        "completed_steps": 3,
        "failed_steps": 4,
        "ready_steps": 5,
        "execution_status": "all_complete",
        "recommended_action": "finalize_task",
        "completion_percentage": 12.5,
        "health_status": "healthy",
        "failure": {
            "cause": "step_retrying",
            "step_uuid": STEP,
            "step_name": "pay",
            "step_state": StepState.WAITING_FOR_RETRY,
            "attempts": 1,
            "max_attempts": 3,
            "next_retry_at": NOON + timedelta(seconds=3),
            "step_failure": FAILURE_AS_RECORD,
        },
        "cancellation": {
            "cancelled_at": NOON + timedelta(seconds=4),
            "reason": "late",
            "requested_by": "bob",
        },
        "steps": (),
        "already_existed": True,
    }


def test_what_a_task_lacks_is_none() -> None:
    task = parsing.task(task_message())
    assert (task.completed_at, task.parent_correlation_id, task.context, task.tags) == (None, None, {}, ())
    assert (task.failure, task.cancellation) == (None, None)


def test_what_a_failure_lacks_is_none() -> None:
    bare = parsing.task_failure(failures_pb2.TaskFailure(cause="staleness_timeout"))
    assert dataclasses.asdict(bare) == dict.fromkeys(dataclasses.asdict(bare)) | {
        "cause": "staleness_timeout"
    }
    failure = parsing.step_failure(failures_pb2.StepFailure(error_type="worker_lost", message="gone"))
    assert (failure.error_class, failure.error_code, failure.status_code) == (None, None, None)
    assert failure.backtrace == ()
    cancellation = parsing.task_cancellation(failures_pb2.TaskCancellation(cancelled_at=at()))
    assert (cancellation.reason, cancellation.requested_by) == (None, None)


def test_every_field_of_an_audit_record_arrives() -> None:
    message = steps_pb2.StepAuditRecord(
        audit_uuid=str(CAUSE),
        step_uuid=str(STEP),
        transition_uuid=str(CAUSE),
        task_uuid=str(TASK),
        recorded_at=at(1),
        worker_uuid=str(CAUSE),
        correlation_id=str(TASK),
        success=False,
        execution_time_ms=12,
        result=struct(value=[1.0]),
        step_name="pay",
        from_state=common_pb2.STEP_STATE_IN_PROGRESS,
        to_state=common_pb2.STEP_STATE_ENQUEUED_AS_ERROR_FOR_ORCHESTRATION,
        result_json=f"[{HUGE}]",
        attempt=2,
        failure=FAILURE,
    )
    assert dataclasses.asdict(parsing.audit_record(message)) == {
        "audit_uuid": CAUSE,
        "transition_uuid": CAUSE,
        "task_uuid": TASK,
        "step_uuid": STEP,
        "step_name": "pay",
        "recorded_at": NOON + timedelta(seconds=1),
        "worker_uuid": CAUSE,
        "correlation_id": TASK,
        "attempt": 2,
        "success": False,
        "execution_time_ms": 12,
        "result": [HUGE],
        "failure": FAILURE_AS_RECORD,
        "from_state": StepState.IN_PROGRESS,
        "to_state": StepState.ENQUEUED_AS_ERROR_FOR_ORCHESTRATION,
    }


def test_a_struct_serves_where_a_server_sends_no_exact_text() -> None:
    task = parsing.task(task_message(context=struct(count=3, share=0.5, names=["a"])))
    assert task.context == {"count": 3, "share": 0.5, "names": ["a"]}
    assert isinstance(task.context["count"], int)


@pytest.mark.parametrize("state", TaskState)
def test_every_task_state_is_known(state: TaskState) -> None:
    number = common_pb2.TaskState.Value(f"TASK_STATE_{state.name}")
    assert parsing.task(task_message(state=number)).state is state


@pytest.mark.parametrize("state", StepState)
def test_every_step_state_is_known(state: StepState) -> None:
    number = common_pb2.StepState.Value(f"STEP_STATE_{state.name}")
    assert parsing.step(step_message(state=number)).state is state


def test_every_field_of_a_step_arrives() -> None:
    message = step_message(
        name="pay",
        state=common_pb2.STEP_STATE_COMPLETE,
        results_json=f'{{"success": true, "result": {{"cents": {HUGE}}}, "error": null}}',
        results=struct(success=True),
        dependencies_satisfied=True,
        retry_eligible=True,
        ready_for_execution=True,
        total_parents=4,
        completed_parents=3,
        attempts=2,
        max_attempts=5,
        backoff_request_seconds=30,
        created_at=at(0),
        updated_at=at(1),
        completed_at=at(2),
        last_attempted_at=at(3),
        last_failure_at=at(4),
        next_retry_at=at(5),
        failure=FAILURE,
    )
    step = parsing.step(message)
    assert dataclasses.asdict(step) == {
        "task_uuid": TASK,
        "step_uuid": STEP,
        "name": "pay",
        "state": StepState.COMPLETE,
        "attempts": 2,
        "max_attempts": 5,
        "dependencies_satisfied": True,
        "retry_eligible": True,
        "ready_for_execution": True,
        "total_parents": 4,
        "completed_parents": 3,
        "results": {"success": True, "result": {"cents": HUGE}, "error": None},
        "backoff_request_seconds": 30,
        "created_at": NOON,
        "updated_at": NOON + timedelta(seconds=1),
        "completed_at": NOON + timedelta(seconds=2),
        "last_attempted_at": NOON + timedelta(seconds=3),
        "last_failure_at": NOON + timedelta(seconds=4),
        "next_retry_at": NOON + timedelta(seconds=5),
        "failure": FAILURE_AS_RECORD,
    }
    assert step.result == {"cents": HUGE}
    assert step.error is None


def test_a_step_that_has_not_run_has_no_result() -> None:
    step = parsing.step(step_message())
    assert (step.results, step.result, step.error, step.backoff_request_seconds) == (None, None, None, None)


def test_a_failed_step_has_an_error_and_no_result() -> None:
    step = parsing.step(
        step_message(results_json='{"success": false, "result": {}, "error": {"message": "no"}}')
    )
    assert step.result is None
    assert step.error == {"message": "no"}


def test_steps_are_found_by_name() -> None:
    task = parsing.task(task_message(), steps=[step_message(name="a"), step_message(name="b")])
    assert task.step("b").name == "b"
    with pytest.raises(KeyError, match="came with no step 'c'"):
        task.step("c")


def test_a_move_of_the_task() -> None:
    message = tasks_pb2.TaskStatusUpdate(
        update_type=tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_STATE_CHANGE,
        timestamp=at(),
        task_state=common_pb2.TASK_STATE_COMPLETE,
        previous_state=common_pb2.TASK_STATE_STEPS_IN_PROCESS,
    )
    assert parsing.update(message, cursor=None, task_uuid=TASK) == TaskUpdate(
        task_uuid=TASK, at=NOON, state=TaskState.COMPLETE, previous_state=TaskState.STEPS_IN_PROCESS
    )


def test_a_move_of_a_step() -> None:
    message = tasks_pb2.TaskStatusUpdate(
        update_type=tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_STEP_STATE_CHANGE,
        timestamp=at(),
        step_update=tasks_pb2.StepUpdate(
            step_uuid=str(STEP), name="pay", state=common_pb2.STEP_STATE_ERROR, attempt=3
        ),
    )
    assert parsing.update(message, cursor=None, task_uuid=TASK) == StepUpdate(
        task_uuid=TASK, step_uuid=STEP, name="pay", at=NOON, state=StepState.ERROR, attempt=3
    )


@pytest.mark.parametrize("kind", ["UPDATE_TYPE_TASK_COMPLETE", "UPDATE_TYPE_TASK_ERROR"])
def test_the_last_update_says_so(kind: str) -> None:
    message = tasks_pb2.TaskStatusUpdate(
        update_type=tasks_pb2.TaskStatusUpdate.UpdateType.Value(kind),
        timestamp=at(),
        task_state=common_pb2.TASK_STATE_ERROR,
        error_message="step 'pay' failed",
    )
    update = parsing.update(message, cursor=None, task_uuid=TASK)
    assert isinstance(update, TaskUpdate)
    assert update.is_last
    assert update.error_message == "step 'pay' failed"
