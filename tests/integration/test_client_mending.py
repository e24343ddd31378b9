"""The client mends tasks at the real services: it sees what failed, acts on the step, and the task goes on."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tasker.client import (
    AbortedError,
    AlreadyExistsError,
    DlqReason,
    InvalidArgumentError,
    NotFoundError,
    ResolutionStatus,
    StepState,
    SyncTaskerClient,
    Task,
    TaskerClient,
    TaskState,
)
from tasker.orchestration.service import OrchestrationService
from tasker.worker import PermanentError, StepContext
from tests.support.engine import chain
from tests.support.waiting import within
from tests.support.workshop import Gate, Workshop

HUGE = 2**63 + 1
BY: dict[str, Any] = {"performed_by": "ada", "reason": "the bank is back"}


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(2), chain(1) | {"name": "strict", "identity_strategy": "strict"}]


class CardDeclinedError(PermanentError):
    """What the bank says."""


def declined(context: StepContext) -> object:
    raise CardDeclinedError("no money", error_code="CARD_DECLINED")


async def blocked(client: TaskerClient, workshop: Workshop) -> Task:
    """Create a task whose first step fails for good, once."""
    workshop.behaviours["s1"] = declined
    task = await client.wait((await client.create("test", "workflow", {"n": HUGE})).task_uuid, timeout=30)
    del workshop.behaviours["s1"]
    assert task.state is TaskState.BLOCKED_BY_FAILURES
    return task


async def test_a_task_says_why_it_is_blocked(client: TaskerClient, workshop: Workshop) -> None:
    task = await blocked(client, workshop)
    failure = task.failure
    assert failure is not None
    assert failure.step_failure is not None
    assert (failure.cause, failure.step_name, failure.step_state) == ("step_failed", "s1", StepState.ERROR)
    assert (failure.step_failure.message, failure.step_failure.error_code) == ("no money", "CARD_DECLINED")
    assert failure.step_failure.error_class == "CardDeclinedError"
    assert failure.step_failure.backtrace == ()
    step = task.step("s1").failure
    assert step is not None
    assert "CardDeclinedError: no money" in step.backtrace[-1]
    (listed,) = [one async for one in client.list(states=[TaskState.BLOCKED_BY_FAILURES])]
    assert listed.failure == failure


async def test_a_reset_step_runs_again(client: TaskerClient, workshop: Workshop) -> None:
    task = await blocked(client, workshop)
    step = await client.reset_step(task.task_uuid, task.step("s1").step_uuid, **BY)
    assert step.state is not StepState.ERROR
    done = await client.wait(task.task_uuid, timeout=30)
    assert (done.state, done.failure) == (TaskState.COMPLETE, None)


async def test_a_resolved_step_lets_the_next_one_run(client: TaskerClient, workshop: Workshop) -> None:
    task = await blocked(client, workshop)
    step = await client.resolve_step(task.task_uuid, task.step("s1").step_uuid, **BY)
    assert step.state is StepState.RESOLVED_MANUALLY
    assert (await client.wait(task.task_uuid, timeout=30)).state is TaskState.COMPLETE


async def test_a_completed_step_has_the_exact_result(client: TaskerClient, workshop: Workshop) -> None:
    task = await blocked(client, workshop)
    workshop.behaviours["s2"] = lambda context: {"seen": context.get_dependency_result("s1")}
    step = await client.complete_step(
        task.task_uuid, task.step("s1").step_uuid, [HUGE], metadata={"t": 1}, **BY
    )
    assert (step.state, step.result) == (StepState.COMPLETE, [HUGE])
    done = await client.wait(task.task_uuid, timeout=30)
    assert done.state is TaskState.COMPLETE
    context = await client.context(task.task_uuid)
    assert (context.inputs, context.outputs) == ({"n": HUGE}, {"s1": [HUGE], "s2": {"seen": [HUGE]}})


async def test_what_is_refused_says_why(client: TaskerClient, workshop: Workshop) -> None:
    task = await blocked(client, workshop)
    first, second = task.steps
    with pytest.raises(InvalidArgumentError) as refusal:
        await client.reset_step(task.task_uuid, second.step_uuid, **BY)
    assert refusal.value.reason == "STEP_TRANSITION_NOT_ALLOWED"
    with pytest.raises(InvalidArgumentError) as refusal:
        await client.reset_step(task.task_uuid, first.step_uuid, performed_by="", reason="")
    assert {violation.field for violation in refusal.value.violations} == {"performed_by", "reason"}
    with pytest.raises(NotFoundError):
        await client.resolve_step(task.task_uuid, uuid4(), **BY)
    with pytest.raises(NotFoundError):
        await client.summary(uuid4())
    with pytest.raises(NotFoundError):
        await client.context(uuid4())
    with pytest.raises(NotFoundError):
        await anext(client.step_audit(task.task_uuid, uuid4()))


async def test_the_history_of_a_step_is_told(client: TaskerClient, workshop: Workshop) -> None:
    task = await blocked(client, workshop)
    step = task.step("s1").step_uuid
    await client.reset_step(task.task_uuid, step, **BY)
    await client.wait(task.task_uuid, timeout=30)
    new, old = [record async for record in client.step_audit(task.task_uuid, step, page_size=1)]
    assert (new.success, new.result, new.failure) == (True, {"step": "s1"}, None)
    assert (old.success, old.attempt) == (False, 1)
    assert old.failure is not None
    assert old.failure.error_code == "CARD_DECLINED"
    assert old.recorded_at < new.recorded_at
    (reset,) = await client.step_interventions(task.task_uuid, step)
    assert (reset.action, reset.performed_by, reset.reason) == ("reset_for_retry", *BY.values())
    assert (reset.from_state, reset.to_state) == (StepState.ERROR, StepState.PENDING)
    assert old.recorded_at < reset.intervened_at < new.recorded_at


async def test_a_summary_tells_it_all(client: TaskerClient, workshop: Workshop) -> None:
    task = await blocked(client, workshop)
    summary = await client.summary(task.task_uuid)
    assert (summary.task_uuid, summary.state, summary.failure) == (task.task_uuid, task.state, task.failure)
    assert [step.name for step in summary.template_steps] == ["s1", "s2"]
    assert [step.state for step in summary.steps] == [StepState.ERROR, StepState.PENDING]
    assert summary.steps[0].error is not None
    assert (summary.in_dlq, summary.dlq_reason) == (True, DlqReason.MAX_RETRIES_EXCEEDED)
    assert summary.links["task"].endswith(str(task.task_uuid))


async def test_an_entry_is_looked_at_and_closed(client: TaskerClient, workshop: Workshop) -> None:
    task = await blocked(client, workshop)
    entry = await client.dlq.get(task.task_uuid)
    assert entry.original_state is TaskState.BLOCKED_BY_FAILURES
    assert [one async for one in client.dlq.list(status=ResolutionStatus.PENDING)] == [entry]
    (queued,) = [one async for one in client.dlq.queue()]
    assert (queued.dlq_entry_uuid, queued.name) == (entry.dlq_entry_uuid, "workflow")
    noted = await client.dlq.update(entry.dlq_entry_uuid, notes="asked the bank")
    with pytest.raises(AbortedError):
        await client.dlq.update(entry.dlq_entry_uuid, notes="late", expected_updated_at=entry.updated_at)
    closed = await client.dlq.update(
        entry.dlq_entry_uuid,
        status=ResolutionStatus.MANUALLY_RESOLVED,
        resolved_by="ada",
        expected_updated_at=noted.updated_at,
    )
    assert (closed.resolution_notes, closed.resolved_by) == ("asked the bank", "ada")
    with pytest.raises(InvalidArgumentError) as refusal:
        await client.dlq.update(entry.dlq_entry_uuid, notes="late")
    assert refusal.value.reason == "DLQ_ENTRY_CLOSED"
    (stats,) = await client.dlq.stats()
    assert (stats.dlq_reason, stats.total_entries, stats.manually_resolved) == (entry.dlq_reason, 1, 1)
    assert [one async for one in client.dlq.queue()] == []


async def test_staleness_is_told(client: TaskerClient, workshop: Workshop) -> None:
    workshop.behaviours["s1"] = gate = Gate()
    task = await client.create("test", "workflow")
    await within(gate.entered.wait())
    (stale,) = [one async for one in client.dlq.staleness()]
    assert (stale.task_uuid, stale.state, stale.health) == (
        task.task_uuid,
        TaskState.STEPS_IN_PROCESS,
        "healthy",
    )
    gate.opened.set()
    await client.wait(task.task_uuid, timeout=30)


async def test_a_cancelled_task_says_who_and_why(client: TaskerClient, workshop: Workshop) -> None:
    task = await blocked(client, workshop)
    done = await client.cancel(task.task_uuid, reason="a mistake", requested_by="ada")
    cancellation = done.task.cancellation
    assert cancellation is not None
    assert (cancellation.reason, cancellation.requested_by) == ("a mistake", "ada")
    assert cancellation == (await client.get(task.task_uuid)).cancellation


async def test_a_conflict_leads_to_the_task_there_is(client: TaskerClient) -> None:
    first = await client.create("test", "strict", {"order": 1})
    with pytest.raises(AlreadyExistsError) as refusal:
        await client.create("test", "strict", {"order": 1})
    assert (await client.get(refusal.value.metadata["task_uuid"])).task_uuid == first.task_uuid


async def test_all_that_without_asyncio(
    client: TaskerClient, workshop: Workshop, orchestration: OrchestrationService
) -> None:
    task = await blocked(client, workshop)

    def mend() -> TaskState:
        with SyncTaskerClient(orchestration.address) as sync:
            (queued,) = sync.dlq.queue()
            summary = sync.summary(queued.task_uuid)
            failed = next(step for step in summary.steps if step.state is StepState.ERROR)
            assert len(list(sync.step_audit(summary.task_uuid, failed.step_uuid))) == 1
            sync.complete_step(summary.task_uuid, failed.step_uuid, {"paid": True}, **BY)
            entry = sync.dlq.get(summary.task_uuid)
            sync.dlq.update(
                entry.dlq_entry_uuid, status=ResolutionStatus.MANUALLY_RESOLVED, resolved_by="ada"
            )
            return sync.wait(task.task_uuid, timeout=30).state

    assert await within(asyncio.to_thread(mend)) is TaskState.COMPLETE
