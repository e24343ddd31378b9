"""The client's calls that mend tasks: what they send, what they make of the answer, and that they never repeat."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from tasker.client import (
    DlqEntry,
    DlqReason,
    QueuedDlqEntry,
    ResolutionStatus,
    StalenessHealth,
    StepState,
    TaskerClient,
    TaskStaleness,
    TaskState,
    UnavailableError,
    dlq_parsing,
    summary_parsing,
)
from tasker.domain import errors
from tasker.v1 import common_pb2, dlq_pb2, failures_pb2, steps_pb2, tasks_pb2
from tests.unit.client.scripted import STEP, TASK, fails, playing, sends, step_message

ENTRY = UUID("01980000-0000-7000-8000-000000000003")
NOON = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)
HUGE = 2**63 + 1
BY: dict[str, Any] = {"performed_by": "ada", "reason": "mended"}

Call = Callable[[TaskerClient], Awaitable[Any]]


def struct(**values: Any) -> Struct:
    message = Struct()
    message.update(values)
    return message


def at(seconds: float = 0) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(NOON + timedelta(seconds=seconds))
    return message


def entry_message(**fields: Any) -> dlq_pb2.DlqEntry:
    required: dict[str, Any] = {
        "dlq_entry_uuid": str(ENTRY),
        "task_uuid": str(TASK),
        "original_state": "error",
        "dlq_reason": dlq_pb2.DLQ_REASON_MANUAL_DLQ,
        "resolution_status": dlq_pb2.DLQ_RESOLUTION_STATUS_PENDING,
        "dlq_timestamp": at(0),
        "created_at": at(1),
        "updated_at": at(2),
        "task_snapshot": struct(version=1.0),
    }
    return dlq_pb2.DlqEntry(**(required | fields))


RESOLVED = sends(steps_pb2.ResolveStepResponse(step=step_message(state=common_pb2.STEP_STATE_COMPLETE)))
UPDATED = sends(dlq_pb2.UpdateDlqInvestigationResponse(success=True, entry=entry_message()))

# Acting

ACTIONS: list[tuple[Call, dict[str, Any]]] = [
    (lambda c: c.reset_step(TASK, STEP, **BY), {"action_type": "RESET_FOR_RETRY"}),
    (lambda c: c.resolve_step(str(TASK), str(STEP), **BY), {"action_type": "RESOLVE_MANUALLY"}),
    (
        lambda c: c.complete_step(TASK, STEP, [HUGE], metadata={"ticket": "T-1"}, **BY),
        {"action_type": "COMPLETE_MANUALLY", "result_json": f"[{HUGE}]", "metadata": {"ticket": "T-1"}},
    ),
    (
        lambda c: c.complete_step(TASK, STEP, None, **BY),
        {"action_type": "COMPLETE_MANUALLY", "result_json": "null"},
    ),
]


@pytest.mark.parametrize(("call", "sent"), ACTIONS)
async def test_an_action_says_what_who_and_why(call: Call, sent: dict[str, Any]) -> None:
    async with playing(RESOLVED) as (client, service):
        step = await call(client)
    assert (step.step_uuid, step.state) == (STEP, StepState.COMPLETE)
    (request,) = service.requests
    assert MessageToDict(request, preserving_proto_field_name=True) == {
        "task_uuid": str(TASK),
        "step_uuid": str(STEP),
        **BY,
        **sent,
        "action_type": f"STEP_MANUAL_ACTION_TYPE_{sent['action_type']}",
    }


@pytest.mark.parametrize("call", [*(call for call, _ in ACTIONS), lambda c: c.dlq.update(ENTRY, notes="n")])
async def test_what_changes_something_is_sent_once(call: Call) -> None:
    """It may have been carried out although it failed."""
    async with playing(fails(errors.UnavailableError("too busy", retry_after_seconds=0))) as (
        client,
        service,
    ):
        with pytest.raises(UnavailableError):
            await call(client)
    assert len(service.requests) == 1


@pytest.mark.parametrize(("result", "error"), [(float("nan"), ValueError), ({1, 2}, TypeError)])
async def test_a_result_that_is_no_json_is_refused_at_home(result: Any, error: type[Exception]) -> None:
    async with playing(RESOLVED) as (client, service):
        with pytest.raises(error):
            await client.complete_step(TASK, STEP, result, **BY)
    assert service.requests == []


# DLQ entries


async def test_an_update_sends_what_is_given() -> None:
    async with playing(UPDATED) as (client, service):
        entry = await client.dlq.update(
            ENTRY,
            status=ResolutionStatus.MANUALLY_RESOLVED,
            notes="the bank was down",
            resolved_by="ada",
            metadata={"ticket": "T-1"},
            expected_updated_at=NOON,
        )
        await client.dlq.update(str(ENTRY))
    assert entry.dlq_entry_uuid == ENTRY
    whole, bare = service.requests
    assert whole == dlq_pb2.UpdateDlqInvestigationRequest(
        dlq_entry_uuid=str(ENTRY),
        resolution_status=dlq_pb2.DLQ_RESOLUTION_STATUS_MANUALLY_RESOLVED,
        resolution_notes="the bank was down",
        resolved_by="ada",
        metadata=struct(ticket="T-1"),
        expected_updated_at=at(),
    )
    assert bare == dlq_pb2.UpdateDlqInvestigationRequest(dlq_entry_uuid=str(ENTRY))


async def test_an_instant_without_a_time_zone_is_refused_at_home() -> None:
    async with playing(UPDATED) as (client, service):
        with pytest.raises(ValueError, match="expected_updated_at has no time zone"):
            await client.dlq.update(ENTRY, expected_updated_at=datetime(2026, 1, 2))  # noqa: DTZ001
    assert service.requests == []


def page(token: str | None) -> common_pb2.PaginationResponse:
    return common_pb2.PaginationResponse(next_page_token=token)


QUEUED = dlq_pb2.DlqInvestigationQueueEntry(
    dlq_entry_uuid=str(ENTRY),
    task_uuid=str(TASK),
    original_state="error",
    dlq_reason=dlq_pb2.DLQ_REASON_MANUAL_DLQ,
)
STALE = dlq_pb2.StalenessMonitoringEntry(
    task_uuid=str(TASK),
    current_state="waiting_for_retry",
    health_status=dlq_pb2.STALENESS_HEALTH_STATUS_STALE,
)


@pytest.mark.parametrize(
    ("iterate", "answer", "kind"),
    [
        (lambda c: c.dlq.list(page_size=2), lambda t: dlq_pb2.ListDlqEntriesResponse(
            entries=[entry_message()], pagination=page(t)), DlqEntry),
        (lambda c: c.dlq.queue(page_size=2), lambda t: dlq_pb2.GetDlqInvestigationQueueResponse(
            entries=[QUEUED], pagination=page(t)), QueuedDlqEntry),
        (lambda c: c.dlq.staleness(page_size=2), lambda t: dlq_pb2.GetStalenessMonitoringResponse(
            entries=[STALE], pagination=page(t)), TaskStaleness),
    ],
)  # fmt: skip
async def test_listings_fetch_pages_when_they_are_needed(iterate: Any, answer: Any, kind: type) -> None:
    async with playing(sends(answer("t1")), sends(answer("t2")), sends(answer(None))) as (client, service):
        rows = iterate(client)
        assert service.requests == []
        assert isinstance(await anext(rows), kind)
        assert len(service.requests) == 1
        assert len([row async for row in rows]) == 2
    assert [request.pagination.page_token for request in service.requests] == ["", "t1", "t2"]
    assert {request.pagination.limit for request in service.requests} == {2}


async def test_entries_are_filtered() -> None:
    async with playing(sends(dlq_pb2.ListDlqEntriesResponse())) as (client, service):
        async for _ in client.dlq.list(status=ResolutionStatus.PENDING, reason=DlqReason.STALENESS_TIMEOUT):
            pass
    (request,) = service.requests
    assert request.resolution_status == dlq_pb2.DLQ_RESOLUTION_STATUS_PENDING
    assert request.dlq_reason == dlq_pb2.DLQ_REASON_STALENESS_TIMEOUT


@pytest.mark.parametrize("reason", DlqReason)
@pytest.mark.parametrize("status", ResolutionStatus)
def test_every_field_of_an_entry_arrives(reason: DlqReason, status: ResolutionStatus) -> None:
    message = entry_message(
        dlq_reason=dlq_pb2.DlqReason.Value(f"DLQ_REASON_{reason.name}"),
        resolution_status=dlq_pb2.DlqResolutionStatus.Value(f"DLQ_RESOLUTION_STATUS_{status.name}"),
        resolution_timestamp=at(3),
        resolution_notes="notes",
        resolved_by="ada",
        metadata=struct(n=2.0),
    )
    assert dataclasses.asdict(dlq_parsing.entry(message)) == {
        "dlq_entry_uuid": ENTRY,
        "task_uuid": TASK,
        "original_state": TaskState.ERROR,
        "dlq_reason": reason,
        "dlq_timestamp": NOON,
        "resolution_status": status,
        "resolution_timestamp": NOON + timedelta(seconds=3),
        "resolution_notes": "notes",
        "resolved_by": "ada",
        "task_snapshot": {"version": 1},
        "metadata": {"n": 2},
        "created_at": NOON + timedelta(seconds=1),
        "updated_at": NOON + timedelta(seconds=2),
    }
    bare = dlq_parsing.entry(entry_message())
    assert (bare.resolution_timestamp, bare.resolution_notes, bare.resolved_by, bare.metadata) == (None,) * 4


def test_every_field_of_the_other_rows_arrives() -> None:
    queued = dlq_pb2.DlqInvestigationQueueEntry(
        dlq_entry_uuid=str(ENTRY), task_uuid=str(TASK), original_state="error",
        dlq_reason=dlq_pb2.DLQ_REASON_MANUAL_DLQ, dlq_timestamp=at(), minutes_in_dlq=1.5, namespace_name="shop",
        task_name="checkout", current_state="cancelled", time_in_state_minutes=3, priority_score=11.5,
    )  # fmt: skip
    assert dataclasses.asdict(dlq_parsing.queued_entry(queued)) == {
        "dlq_entry_uuid": ENTRY, "task_uuid": TASK, "original_state": TaskState.ERROR,
        "dlq_reason": DlqReason.MANUAL_DLQ, "dlq_timestamp": NOON, "minutes_in_dlq": 1.5, "namespace": "shop",
        "name": "checkout", "current_state": TaskState.CANCELLED, "time_in_state_minutes": 3, "priority_score": 11.5,
    }  # fmt: skip
    gone = dlq_parsing.queued_entry(QUEUED)
    assert (gone.namespace, gone.name, gone.current_state, gone.time_in_state_minutes) == (None,) * 4
    stats = dlq_pb2.DlqStats(
        dlq_reason=dlq_pb2.DLQ_REASON_MANUAL_DLQ, total_entries=10, pending=1, manually_resolved=2,
        permanent_failures=3, cancelled=4, oldest_entry=at(1), newest_entry=at(2), avg_resolution_time_minutes=2.5,
    )  # fmt: skip
    assert dataclasses.asdict(dlq_parsing.stats(stats)) == {
        "dlq_reason": DlqReason.MANUAL_DLQ, "total_entries": 10, "pending": 1, "manually_resolved": 2,
        "permanent_failures": 3, "cancelled": 4, "oldest_entry": NOON + timedelta(seconds=1),
        "newest_entry": NOON + timedelta(seconds=2), "avg_resolution_time_minutes": 2.5,
    }  # fmt: skip
    stale = dlq_pb2.StalenessMonitoringEntry(
        task_uuid=str(TASK), namespace_name="shop", task_name="checkout", current_state="waiting_for_retry",
        time_in_state_minutes=1, task_age_minutes=2, staleness_threshold_minutes=3,
        health_status=dlq_pb2.STALENESS_HEALTH_STATUS_WARNING, priority=-4,
    )  # fmt: skip
    assert dataclasses.asdict(dlq_parsing.staleness(stale)) == {
        "task_uuid": TASK, "namespace": "shop", "name": "checkout", "state": TaskState.WAITING_FOR_RETRY,
        "time_in_state_minutes": 1, "age_minutes": 2, "threshold_minutes": 3, "health": StalenessHealth.WARNING,
        "priority": -4,
    }  # fmt: skip


# A task as a whole


def test_a_context_is_exact_and_falls_back_to_the_structs() -> None:
    exact = tasks_pb2.TaskContext(
        inputs=struct(a=1.0), inputs_json=json.dumps({"a": HUGE, "b": 1}), outputs_json='{"b": [2]}'
    )
    context = summary_parsing.task_context(exact, {})
    assert (context.inputs, context.outputs) == ({"a": HUGE, "b": 1}, {"b": [2]})
    assert context.merged == {"a": HUGE, "b": [2]}
    older = tasks_pb2.TaskContext(inputs=struct(a=1.0), outputs=struct(b=2.5))
    assert summary_parsing.task_context(older, {}).merged == {"a": 1, "b": 2.5}


def test_every_field_of_a_summary_arrives() -> None:
    times = {"created_at": "2026-01-02T12:00:00.25+00:00", "completed_at": "2026-01-02T12:00:01.25+00:00"}
    message = tasks_pb2.GetTaskSummaryResponse(
        task=tasks_pb2.TaskSummaryMetadata(
            task_uuid=str(TASK), name="checkout", namespace="shop", version="1.0.0", status="blocked_by_failures",
            **times, updated_at="2026-01-02T12:00:00.25Z", initiator="ada", source_system="web", reason="because",
            correlation_id=str(TASK), total_steps=5, pending_steps=1, in_progress_steps=2, completed_steps=3,
            failed_steps=4, completion_percentage=12.5, health_status="blocked", execution_status="processing",
            recommended_action="handle_failures", failure=failures_pb2.TaskFailure(cause="step_failed"),
            cancellation=failures_pb2.TaskCancellation(cancelled_at=at()),
        ),
        template=tasks_pb2.TaskSummaryTemplate(steps=[tasks_pb2.TaskSummaryTemplateStep(
            name="pay", step_type="standard", handler="shop.pay", dependencies=["a"], retryable=True, max_attempts=3,
        )]),
        steps=[tasks_pb2.StepSummaryInfo(
            step_uuid=str(STEP), name="pay", current_state="error", **times, last_attempted_at=times["created_at"],
            attempts=1, max_attempts=3, dependencies_satisfied=True, retry_eligible=True,
            error=tasks_pb2.StepErrorSummary(
                error_type="t", retryable=True, status_code=402, message="m", error_class="C", error_code="E",
                message_omitted=True,
            ),
            next_retry_at=times["completed_at"],
        )],
        dlq=tasks_pb2.DlqSummaryInfo(in_dlq=True, dlq_reason="manual_dlq", resolution_status="pending"),
        links=tasks_pb2.TaskSummaryLinks(task="/t", steps="/s", dlq="/d"),
        omitted_steps=7,
    )  # fmt: skip
    summary = summary_parsing.task_summary(message)
    later = NOON + timedelta(seconds=1)
    found = dataclasses.asdict(summary)
    assert found.pop("failure")["cause"] == "step_failed"
    assert found.pop("cancellation")["cancelled_at"] == NOON
    assert found == {
        "task_uuid": TASK, "name": "checkout", "namespace": "shop", "version": "1.0.0",
        "state": TaskState.BLOCKED_BY_FAILURES, "created_at": NOON, "updated_at": NOON, "completed_at": later,
        "initiator": "ada", "source_system": "web", "reason": "because", "correlation_id": TASK, "total_steps": 5,
        "pending_steps": 1, "in_progress_steps": 2, "completed_steps": 3, "failed_steps": 4,
        "completion_percentage": 12.5, "health_status": "blocked", "execution_status": "processing",
        "recommended_action": "handle_failures",
        "template_steps": ({
            "name": "pay", "description": None, "step_type": "standard", "dependencies": ("a",),
            "handler": "shop.pay", "retryable": True, "max_attempts": 3, "timeout_seconds": None,
            "result_schema": None,
        },),
        "steps": ({
            "step_uuid": STEP, "name": "pay", "state": StepState.ERROR, "attempts": 1, "max_attempts": 3,
            "dependencies_satisfied": True, "retry_eligible": True, "created_at": NOON, "completed_at": later,
            "last_attempted_at": NOON, "next_retry_at": later,
            "error": {
                "error_type": "t", "retryable": True, "status_code": 402, "message": "m", "error_class": "C",
                "error_code": "E", "message_omitted": True,
            },
        },),
        "in_dlq": True, "dlq_reason": DlqReason.MANUAL_DLQ, "dlq_status": ResolutionStatus.PENDING,
        "links": {"task": "/t", "steps": "/s", "dlq": "/d"}, "omitted_steps": 7,
    }  # fmt: skip
