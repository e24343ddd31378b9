"""What operators do to tasks and steps, through the engine."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasker.domain.errors import (
    InvalidArgumentError,
    InvalidStepTransitionError,
    StepNotFoundError,
    TaskNotFoundError,
)
from tests.support.engine import NAMESPACE, Engine, chain, diamond, graph
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    rival,
    start_blocked,
)

BY: dict[str, str] = {"performed_by": "sam", "reason": "the supplier is back"}
ONCE: dict[str, Any] = {"retry": {"max_attempts": 1}}
BEGINNING = UUID(int=0)


async def fail_all(engine: Engine) -> None:
    """Let every enqueued step fail for good."""
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()


async def step_uuid(engine: Engine, task: UUID, name: str) -> UUID:
    return (await engine.steps(task))[name].step_uuid


async def newest(engine: Engine, task: UUID, name: str) -> Any:
    """Return what a step's readers see as its result."""
    (envelope,) = [step.envelope for step in (await engine.reader.steps(task)).steps if step.name == name]
    return envelope


# Keys


async def test_caller_provided_without_a_key_is_refused_and_writes_nothing(
    engine: Engine,
) -> None:
    template = await engine.register(chain(1) | {"identity_strategy": "caller_provided"})
    with pytest.raises(InvalidArgumentError) as refusal:
        await engine.request(template, {"n": 1})
    assert [violation.field for violation in refusal.value.violations] == ["idempotency_key"]
    assert await engine.sql("SELECT 1 FROM tasker.tasks") == []
    first = await engine.request(template, {"n": 1}, idempotency_key="k")
    assert (await engine.request(template, {"n": 1}, idempotency_key="k")).already_existed
    assert not (await engine.request(template, {"n": 1}, idempotency_key="other")).already_existed
    await engine.run(first.task.task_uuid)


async def test_a_key_deduplicates_whatever_the_strategy(engine: Engine) -> None:
    unique = await engine.register(chain(1) | {"identity_strategy": "always_unique"})
    first = await engine.request(unique, {"n": 1}, idempotency_key="k")
    again = await engine.request(unique, {"n": 1}, idempotency_key="k")
    assert again.task.task_uuid == first.task.task_uuid
    other = await engine.register(chain(1) | {"name": "other", "identity_strategy": "always_unique"})
    assert not (await engine.request(other, {"n": 1}, idempotency_key="k")).already_existed


# Reset


async def test_a_reset_after_exhaustion_completes_with_no_further_call(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(chain(2, retry={"max_attempts": 2, "backoff": "none"}))
    for _ in range(2):
        await any_engine.fail(*await any_engine.claim())
        await any_engine.process()
        await any_engine.timers.tick()
    assert await any_engine.state(task) == "blocked_by_failures"
    assert (await any_engine.steps(task))["s1"].attempts == 2
    assert await newest(any_engine, task, "s1") is not None

    step = await step_uuid(any_engine, task, "s1")
    await any_engine.operators.reset_for_retry(task, step, **BY)
    assert await any_engine.state(task) == "steps_in_process"
    assert (await any_engine.states(task))["s1"] == "enqueued"
    assert (await any_engine.steps(task))["s1"].attempts == 0
    assert await newest(any_engine, task, "s1") is None
    await any_engine.run(task)
    assert await any_engine.state(task) == "complete"
    await assert_history_is_whole(any_engine, task)
    await assert_nothing_drifted(any_engine)


async def test_a_reset_keeps_the_checkpoint_and_says_who_and_why(engine: Engine) -> None:
    task = await engine.create(chain(1, **ONCE))
    await fail_all(engine)
    step = await step_uuid(engine, task, "s1")
    await engine.sql("UPDATE tasker.workflow_steps SET checkpoint = '{\"cursor\": 7}' RETURNING 1")
    await engine.operators.reset_for_retry(task, step, **BY)
    assert await engine.sql(
        "SELECT checkpoint, backoff_request_seconds, next_retry_at FROM tasker.workflow_steps"
    ) == [({"cursor": 7}, None, None)]
    ((metadata,),) = await engine.sql(
        "SELECT metadata FROM tasker.workflow_step_transitions WHERE from_state = 'error'"
    )
    assert metadata == {"event": "reset_for_retry"} | BY
    (claimed,) = await engine.claim()
    assert claimed.attempt == 1


async def test_each_failed_step_of_a_blocked_task_can_run_again_by_itself(engine: Engine) -> None:
    task = await engine.create(graph({"a": [], "b": []}, **ONCE))
    await fail_all(engine)
    assert await engine.state(task) == "blocked_by_failures"
    await engine.operators.reset_for_retry(task, await step_uuid(engine, task, "a"), **BY)
    assert await engine.states(task) == {"a": "enqueued", "b": "error"}
    await engine.succeed(*await engine.claim())
    await engine.process()
    assert await engine.state(task) == "blocked_by_failures"
    await engine.operators.reset_for_retry(task, await step_uuid(engine, task, "b"), **BY)
    await engine.run(task)
    await assert_history_is_whole(engine, task)


# A task in `error`


async def _given_up(engine: Engine, document: dict[str, Any]) -> UUID:
    """Return a task in `error` whose roots have failed, as a give-up leaves it."""
    task = await engine.create(document)
    await fail_all(engine)
    await engine.sql(
        "WITH moved AS (UPDATE tasker.tasks SET state = 'error', terminal_at = tasker.now(), wake_at = NULL, "
        "sort_key = sort_key + 1 RETURNING task_uuid, sort_key) "
        "INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, created_at) "
        "SELECT task_uuid, sort_key, 'blocked_by_failures', 'error', tasker.now() FROM moved RETURNING 1"
    )
    return task


async def test_a_task_in_error_resumes_once_no_step_is_in_error(
    any_engine: Engine,
) -> None:
    task = await _given_up(any_engine, graph({"a": [], "b": [], "c": ["a", "b"]}, **ONCE))
    await any_engine.operators.reset_for_retry(task, await step_uuid(any_engine, task, "a"), **BY)
    assert await any_engine.state(task) == "error"
    assert await any_engine.states(task) == {"a": "pending", "b": "error", "c": "pending"}
    await any_engine.operators.resolve_manually(task, await step_uuid(any_engine, task, "b"), **BY)
    assert await any_engine.state(task) == "steps_in_process"
    await any_engine.run(task)
    assert (await any_engine.states(task))["c"] == "complete"
    await assert_history_is_whole(any_engine, task)
    await assert_nothing_drifted(any_engine)


async def test_a_resume_sends_enqueued_steps_again(engine: Engine) -> None:
    task = await engine.create(graph({"a": [], "b": []}, **ONCE))
    claimed = {step.name: step for step in await engine.claim()}
    await engine.fail(claimed["a"], retryable=False)
    await engine.process()
    # `b` was enqueued when the task ended, and its message is gone.
    await engine.sql("DELETE FROM tasker.step_leases RETURNING 1")
    await engine.sql("UPDATE tasker.workflow_steps SET state = 'enqueued' WHERE name = 'b' RETURNING 1")
    await engine.sql("UPDATE tasker.tasks SET state = 'error', terminal_at = tasker.now() RETURNING 1")
    assert await engine.messages(f"worker_{NAMESPACE}_queue") == 0
    await engine.operators.complete_manually(
        task, claimed["a"].step_uuid, result={"n": 1}, performed_by="sam", reason="by phone"
    )
    assert await engine.messages(f"worker_{NAMESPACE}_queue") == 1
    await engine.run(task)


# Resolve and complete


async def test_resolving_unblocks_children_without_a_result(any_engine: Engine) -> None:
    task = await any_engine.create(diamond(**ONCE))
    await fail_all(any_engine)
    await any_engine.operators.resolve_manually(task, await step_uuid(any_engine, task, "start"), **BY)
    claimed = await any_engine.claim()
    assert {step.name for step in claimed} == {"left", "right"}
    assert all(step.dependencies == {} for step in claimed)
    await any_engine.succeed(*claimed)
    await any_engine.process()
    await any_engine.run(task)
    assert (await any_engine.states(task))["start"] == "resolved_manually"
    await assert_history_is_whole(any_engine, task)
    await assert_nothing_drifted(any_engine)


async def test_completing_supplies_a_result_that_is_marked(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2, **ONCE))
    await fail_all(any_engine)
    await any_engine.operators.complete_manually(
        task,
        await step_uuid(any_engine, task, "s1"),
        result={"charge": "c-1"},
        metadata={"ticket": 4711, "completed_by": "an impostor"},
        performed_by="sam",
        reason="charged by phone",
    )
    (claimed,) = await any_engine.claim()
    assert claimed.dependencies == {"s1": {"charge": "c-1"}}
    envelope = await newest(any_engine, task, "s1")
    assert (envelope["success"], envelope["status"], envelope["error"]) == (True, "completed", None)
    assert envelope["metadata"]["execution_time_ms"] == 0
    assert envelope["metadata"]["custom"] == {
        "ticket": 4711, "manually_completed": True, "completed_by": "sam", "completion_reason": "charged by phone",
    }  # fmt: skip
    await any_engine.succeed(claimed)
    await any_engine.process()
    assert await any_engine.state(task) == "complete"
    await assert_history_is_whole(any_engine, task)


async def test_operator_metadata_that_is_no_object_is_kept_apart(
    engine: Engine,
) -> None:
    task = await engine.create(chain(1))
    await engine.operators.complete_manually(
        task, await step_uuid(engine, task, "s1"), result=[1, 2], metadata="by hand", **BY
    )
    assert (await newest(engine, task, "s1"))["metadata"]["custom"]["operator_metadata"] == "by hand"
    assert await engine.state(task) == "complete"


OPEN = [
    "pending", "enqueued", "in_progress", "enqueued_for_orchestration", "enqueued_as_error_for_orchestration",
    "waiting_for_retry", "error",
]  # fmt: skip


async def _task_with_a_step_in(engine: Engine, state: str) -> tuple[UUID, UUID]:
    """Return a task and a step of it that came to a state by the usual way."""
    task = await engine.create(graph({"first": [], "step": ["first"], "last": ["step"]}))
    if state != "pending":
        await engine.succeed(*await engine.claim())
        await engine.process()
    if state not in ("pending", "enqueued"):
        (step,) = await engine.claim()
        if state == "enqueued_for_orchestration":
            await engine.succeed(step)
        elif state != "in_progress":
            await engine.fail(step, retryable=state != "error")
            if state in ("waiting_for_retry", "error"):
                await engine.process()
    assert (await engine.states(task))["step"] == state
    return task, await step_uuid(engine, task, "step")


@pytest.mark.parametrize("state", OPEN)
@pytest.mark.parametrize("action", ["resolve_manually", "complete_manually"])
async def test_any_open_step_can_be_resolved_or_completed(engine: Engine, state: str, action: str) -> None:
    task, step = await _task_with_a_step_in(engine, state)
    if action == "resolve_manually":
        await engine.operators.resolve_manually(task, step, **BY)
    else:
        await engine.operators.complete_manually(task, step, result={"by": "hand"}, **BY)
    # What is still under way of the old run changes nothing.
    await engine.process()
    await engine.run(task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


@pytest.mark.parametrize("state", OPEN[:-1])
async def test_only_a_failed_step_can_be_reset(engine: Engine, state: str) -> None:
    task, step = await _task_with_a_step_in(engine, state)
    before = await engine.sql("SELECT * FROM tasker.workflow_steps ORDER BY step_uuid")
    with pytest.raises(
        InvalidStepTransitionError, match=rf"^step step cannot be reset: it is {state}, and only"
    ) as refused:
        await engine.operators.reset_for_retry(task, step, **BY)
    assert refused.value.metadata == {"entity": "step", "state": state, "event": "reset_for_retry"}
    assert await engine.sql("SELECT * FROM tasker.workflow_steps ORDER BY step_uuid") == before


# What is over


@pytest.mark.parametrize("over", ["complete", "cancelled", "resolved_manually"])
async def test_actions_on_what_is_over_are_refused(engine: Engine, over: str) -> None:
    task = await engine.create(chain(2))
    step = await step_uuid(engine, task, "s1")
    if over == "complete":
        await engine.succeed(*await engine.claim())
        await engine.process()
    elif over == "cancelled":
        await engine.operators.cancel(task)
    else:
        await engine.operators.resolve_manually(task, step, **BY)
    history = await engine.sql("SELECT count(*) FROM tasker.workflow_step_transitions")
    for action in ("reset_for_retry", "resolve_manually", "complete_manually"):
        result: dict[str, Any] = {"result": {}} if action == "complete_manually" else {}
        with pytest.raises(InvalidStepTransitionError):
            await getattr(engine.operators, action)(task, step, **result, **BY)
    assert await engine.sql("SELECT count(*) FROM tasker.workflow_step_transitions") == history


async def test_steps_of_a_task_that_is_over_are_out_of_reach(engine: Engine) -> None:
    task = await engine.create(chain(2))
    await engine.operators.cancel(task)
    with pytest.raises(
        InvalidStepTransitionError, match=r"^step s2 cannot be resolved: its task is cancelled, and"
    ):
        await engine.operators.resolve_manually(task, await step_uuid(engine, task, "s2"), **BY)


@pytest.mark.parametrize(
    ("action", "later", "state"),
    [
        # After a reset the step could still be resolved, so only another reset comes too late.
        ("reset_for_retry", "reset_for_retry", "enqueued"),
        ("resolve_manually", "reset_for_retry", "resolved_manually"),
        ("resolve_manually", "complete_manually", "resolved_manually"),
        ("complete_manually", "resolve_manually", "complete"),
    ],
)
async def test_of_two_actions_at_once_one_wins(engine: Engine, action: str, later: str, state: str) -> None:
    def act(name: str) -> Coroutine[Any, Any, None]:
        result: dict[str, Any] = {"result": {}} if name == "complete_manually" else {}
        call: Coroutine[Any, Any, None] = getattr(engine.operators, name)(task, step, **result, **BY)
        return call

    task = await engine.create(chain(2, **ONCE))
    await fail_all(engine)
    step = await step_uuid(engine, task, "s1")
    async with rival(engine) as other:
        await other.lock("tasks", task)
        first = await start_blocked(engine, act(action))
        second = await start_blocked(engine, act(later))
        await other.rollback()
    await first
    with pytest.raises(InvalidStepTransitionError, match=rf"^step s1 cannot be .*: it is {state}, and "):
        await second
    assert (await engine.states(task))["s1"] == state
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)
    await engine.run(task)
    await assert_history_is_whole(engine, task)


async def test_an_action_waits_for_the_task_and_sees_that_it_is_over(engine: Engine) -> None:
    task = await engine.create(chain(2, **ONCE))
    await fail_all(engine)
    step = await step_uuid(engine, task, "s1")
    async with rival(engine) as other:
        await other.lock("tasks", task)
        resolving = await start_blocked(engine, engine.operators.resolve_manually(task, step, **BY))
        await other.sql(
            "UPDATE tasker.tasks SET state = 'cancelled', terminal_at = tasker.now() WHERE task_uuid = %s",
            task,
        )
        await other.commit()
    with pytest.raises(
        InvalidStepTransitionError, match=r"^step s1 cannot be resolved: its task is cancelled, and"
    ):
        await resolving
    assert (await engine.states(task))["s1"] == "error"


async def test_unknown_tasks_and_steps_are_not_found(engine: Engine) -> None:
    task = await engine.create(chain(1))
    other = await engine.create(chain(1))
    with pytest.raises(TaskNotFoundError):
        await engine.operators.resolve_manually(uuid4(), uuid4(), **BY)
    with pytest.raises(TaskNotFoundError):
        await engine.operators.cancel(uuid4())
    with pytest.raises(StepNotFoundError):
        await engine.operators.resolve_manually(task, uuid4(), **BY)
    with pytest.raises(InvalidArgumentError, match="belongs to another task"):
        await engine.operators.resolve_manually(task, await step_uuid(engine, other, "s1"), **BY)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"performed_by": ""}, "performed_by"),
        ({"performed_by": "a\x00b"}, "performed_by"),
        ({"result": {"n": float("nan")}}, "result"),
        ({"metadata": {"text": "\ud800"}}, "metadata"),
    ],
)
async def test_bad_arguments_are_named_and_change_nothing(engine: Engine, wrong: Any, field: str) -> None:
    task = await engine.create(chain(1))
    step = await step_uuid(engine, task, "s1")
    with pytest.raises(InvalidArgumentError) as refusal:
        await engine.operators.complete_manually(task, step, **{"result": {}} | BY | wrong)
    assert [violation.field for violation in refusal.value.violations] == [field]
    assert await engine.states(task) == {"s1": "enqueued"}


# Cancel


async def test_a_cancel_in_the_middle_ends_everything(any_engine: Engine) -> None:
    task = await any_engine.create(diamond())
    await any_engine.succeed(*await any_engine.claim())
    await any_engine.process()
    left, right = await any_engine.claim()
    await any_engine.fail(right)
    answer = await any_engine.operators.cancel(task, reason="no longer wanted", requested_by="sam")
    assert (answer.success, answer.message) == (True, None)
    assert await any_engine.state(task) == "cancelled"
    assert await any_engine.states(task) == {
        "start": "complete", "left": "cancelled", "right": "cancelled", "end": "cancelled",
    }  # fmt: skip
    assert await any_engine.succeed(left) == set()  # too late
    await any_engine.process()
    await any_engine.reconciler.tick()
    assert await any_engine.claim() == []
    assert await any_engine.sql("SELECT 1 FROM tasker.step_leases") == []
    assert await any_engine.sql(
        "SELECT from_state, metadata FROM tasker.task_transitions WHERE to_state = 'cancelled'"
    ) == [("steps_in_process", {"event": "cancel", "reason": "no longer wanted", "requested_by": "sam"})]

    again = await any_engine.operators.cancel(task)
    assert (again.success, again.message) == (False, "the task is already over: cancelled")
    await assert_history_is_whole(any_engine, task)
    await assert_nothing_drifted(any_engine)


async def test_a_cancelled_task_blocks_its_identity(engine: Engine) -> None:
    template = await engine.register(chain(1))
    first = await engine.request(template, {"n": 1}, idempotency_key="k")
    await engine.operators.cancel(first.task.task_uuid)
    again = await engine.request(template, {"n": 1}, idempotency_key="k")
    assert (again.already_existed, again.task.state) == (True, "cancelled")


async def test_a_cancel_waits_for_the_task_and_sees_what_changed(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.succeed(*await engine.claim())
    async with rival(engine) as other:
        await other.lock("tasks", task)
        cancelling = await start_blocked(engine, engine.operators.cancel(task))
        await other.sql("UPDATE tasker.workflow_steps SET state = 'complete' WHERE task_uuid = %s", task)
        await other.sql(
            "UPDATE tasker.tasks SET state = 'complete', terminal_at = tasker.now() WHERE task_uuid = %s",
            task,
        )
        await other.commit()
    assert (await cancelling).message == "the task is already over: complete"


async def test_a_timer_of_a_cancelled_task_is_gone(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.fail(*await engine.claim())
    await engine.process()
    await engine.operators.cancel(task)
    await engine.move_clock(3600)
    await engine.timers.tick()
    await engine.reconcile(BEGINNING, 10, engine.reconciler._grace * 0)
    assert await engine.states(task) == {"s1": "cancelled"}
    assert await engine.sql("SELECT wake_at FROM tasker.tasks") == [(None,)]
