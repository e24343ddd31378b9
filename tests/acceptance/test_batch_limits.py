"""How many instances of a batch run at once, and what their failures mean for the others."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tasker.orchestration.engine.expansion import BatchLimits
from tasker.persistence.operations.timers import FiredTimers
from tests.support.dynamic import Hands, assert_each_complete_once, edges, split, workflow
from tests.support.engine import Engine
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted

BY: dict[str, str] = {"performed_by": "sam", "reason": "the file is back"}
SLOW_RETRY = {
    "retry": {"max_attempts": 5, "backoff": "linear", "backoff_base_ms": 10_000, "max_backoff_ms": 60_000}
}


@pytest.fixture
def hands(engine: Engine) -> Hands:
    return Hands(engine)


def batch(**config: Any) -> dict[str, Any]:
    """Return a template of one batch, run like this; a key that is no setting of batches goes to the worker."""
    steps = ("b: batchable", "w: batch_worker < b", "c: deferred_convergence < w", "end < c")
    worker = {key: config.pop(key) for key in ("retry",) if key in config}
    return workflow(*steps, w={"batch_config": {"worker_template": "w"} | config} | worker)


def instances(*numbers: int, worker: str = "w") -> set[str]:
    return {f"{worker}_{n:03}" for n in numbers}


async def in_state(engine: Engine, task: UUID, *states: str) -> set[str]:
    return {name for name, state in (await engine.states(task)).items() if state in states}


async def in_flight(engine: Engine, task: UUID) -> set[str]:
    return await in_state(engine, task, "enqueued", "in_progress")


async def step_uuid(engine: Engine, task: UUID, name: str) -> UUID:
    return (await engine.steps(task))[name].step_uuid


# How many


async def test_no_more_than_the_parallelism_are_in_flight(engine: Engine, hands: Hands) -> None:
    task = await engine.create(batch(parallelism=2))
    await hands.succeed("b", result=split(10))
    begun: set[str] = set()
    while now := await in_flight(engine, task) - {"c", "end"}:
        assert len(now) == min(2, 10 - len(begun - now))
        begun |= now
        running = await hands.running()
        await hands.succeed(max(running))  # whichever ends makes room
    assert begun == instances(*range(1, 11))
    ((most,),) = await engine.sql(
        "SELECT max(open) FROM (SELECT sum((to_state = 'enqueued')::int - (from_state = 'in_progress')::int) "
        "OVER (ORDER BY t.created_at, to_state) AS open FROM tasker.workflow_step_transitions t "
        "JOIN tasker.workflow_steps s USING (step_uuid) WHERE s.batch_step_uuid IS NOT NULL) o"
    )
    assert most == 2
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_nothing_drifted(engine)


async def test_results_that_wait_to_be_processed_hold_no_room_for_others_yet(
    engine: Engine, hands: Hands
) -> None:
    task = await engine.create(batch(parallelism=2))
    await hands.succeed("b", result=split(4))
    await hands.submit("w_001", {})
    await hands.submit("w_002", {})
    assert await in_flight(engine, task) == set()
    await engine.process()
    assert await in_flight(engine, task) == instances(3, 4)


TWO = workflow(
    "b1: batchable", "b2: batchable", "w1: batch_worker < b1", "w2: batch_worker < b2",
    "c: deferred_convergence < w1 w2", "end < c",
    b1={"batch_config": {"worker_template": "w1", "parallelism": 2}},
    b2={"batch_config": {"worker_template": "w2", "parallelism": 2}},
)  # fmt: skip


async def test_a_task_has_a_limit_over_all_its_batches(database_url: str) -> None:
    async with Engine(database_url, batches=BatchLimits(max_parallel=3)) as engine:
        hands = Hands(engine)
        task = await engine.create(TWO)
        await hands.succeed("b1", result=split(3))
        await hands.succeed("b2", result=split(3))
        assert await in_flight(engine, task) == instances(1, 2, worker="w1") | instances(1, worker="w2")
        await hands.succeed("w2_001")
        assert await in_flight(engine, task) == instances(1, 2, worker="w1") | instances(2, worker="w2")
        await hands.succeed("w1_001")
        assert await in_flight(engine, task) == instances(2, 3, worker="w1") | instances(2, worker="w2")
        await hands.finish()
        await assert_each_complete_once(engine, task)


async def test_each_task_has_its_own_limits(engine: Engine) -> None:
    tasks = [await engine.create(batch(parallelism=1)) for _ in range(2)]
    for step in await engine.claim():
        await engine.succeed(step, result=split(2))
    await engine.process()
    assert [await in_flight(engine, task) for task in tasks] == [instances(1)] * 2
    await engine.succeed(*await engine.claim())
    await engine.process()
    assert [await in_flight(engine, task) for task in tasks] == [instances(2)] * 2


async def test_the_convergence_of_two_batches_waits_for_both(engine: Engine, hands: Hands) -> None:
    task = await engine.create(TWO)
    await hands.succeed("b1", result=split(2))
    await hands.succeed("w1_001", "w1_002")
    assert "c" not in await engine.states(task)
    await hands.succeed("b2", result=split(0))
    assert await edges(engine, task, "c") == dict.fromkeys(
        instances(1, 2, worker="w1") | {"w2_000"}, "worker_to_convergence"
    )
    assert await hands.running() == {"w2_000"}
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_nothing_drifted(engine)


@pytest.mark.parametrize("early", [True, False])
async def test_a_worker_may_wait_for_another_step_too(engine: Engine, hands: Hands, early: bool) -> None:
    task = await engine.create(
        workflow("b: batchable", "prepare", "w: batch_worker < b prepare", "c: deferred_convergence < w",
                 b={"batch_config": {"worker_template": "w", "parallelism": 2}})
    )  # fmt: skip
    assert await hands.running() == {"b", "prepare"}
    if early:
        await hands.succeed("prepare")
    await hands.succeed("b", result=split(3))
    assert await edges(engine, task, "w_001") == {"b": "batch_dependency", "prepare": "provides"}
    if not early:
        assert await in_state(engine, task, "pending") == {*instances(1, 2, 3), "c"}
        await hands.succeed("prepare", result={"ready": True})
    assert await hands.running() == instances(1, 2)
    assert set((await hands.take("w_001")).dependencies) == {"b", "prepare"}
    await assert_nothing_drifted(engine)


# Retries


async def wake_at_set(engine: Engine, task: UUID) -> bool:
    ((is_set,),) = await engine.sql("SELECT wake_at IS NOT NULL FROM tasker.tasks WHERE task_uuid = %s", task)
    return bool(is_set)


async def test_a_retry_without_room_waits_for_an_end_and_not_for_the_timer(
    engine: Engine, hands: Hands
) -> None:
    await engine.freeze_clock()
    task = await engine.create(batch(parallelism=1, **SLOW_RETRY))
    await hands.succeed("b", result=split(3))
    await hands.fail("w_001", retryable=True)
    assert await hands.running() == {"w_002"}  # a backoff holds no room
    assert await engine.timers.tick() == 5  # its poll; the retry is due in ten seconds
    await engine.move_clock(10)
    assert await engine.timers.tick() == 5
    assert await engine.states(task) | {"w_001": "waiting_for_retry", "w_002": "in_progress"} == (
        await engine.states(task)
    )
    assert not await wake_at_set(engine, task)
    assert await engine.fire_timers(10) == FiredTimers(0, None, [])
    await engine.move_clock(1000)
    assert await engine.fire_timers(10) == FiredTimers(0, None, [])

    await hands.succeed("w_002")
    assert await hands.running() == {"w_001"}  # the oldest
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)


async def test_another_step_that_ends_makes_the_timer_look_once_more_at_most(
    engine: Engine, hands: Hands
) -> None:
    await engine.freeze_clock()
    document = batch(parallelism=1, **SLOW_RETRY)
    document["steps"] += workflow("x", "y < x")["steps"]
    await engine.create(document)
    await hands.succeed("b", result=split(2))
    await hands.fail("w_001", retryable=True)
    assert await hands.running() == {"w_002", "x"}
    await engine.move_clock(10)
    assert await engine.fire_timers(10) == FiredTimers(1, None, [])
    await hands.succeed("x")
    await engine.fire_timers(10)
    assert await engine.fire_timers(10) == FiredTimers(0, None, [])


async def test_a_retry_without_room_does_not_hide_one_that_is_due_later(engine: Engine, hands: Hands) -> None:
    await engine.freeze_clock()
    document = batch(parallelism=1, **SLOW_RETRY)
    document["steps"] += workflow("x", x=SLOW_RETRY)["steps"]
    task = await engine.create(document)
    await hands.succeed("b", result=split(2))
    await hands.fail("w_001", retryable=True)
    await engine.move_clock(4)
    await hands.fail("x", retryable=True)
    assert await hands.running() == {"w_002"}
    await engine.move_clock(6)
    assert await engine.fire_timers(10) == FiredTimers(1, 4.0, [])
    await engine.move_clock(4)
    assert await engine.fire_timers(10) == FiredTimers(1, None, [])
    assert await in_flight(engine, task) == {"w_002", "x"}


async def test_retries_that_are_due_share_the_room_that_there_is(engine: Engine, hands: Hands) -> None:
    task = await engine.create(batch(parallelism=2, **SLOW_RETRY))
    await hands.succeed("b", result=split(3))
    await hands.fail("w_001", "w_002", "w_003", retryable=True)
    assert await engine.state(task) == "waiting_for_retry"
    await engine.move_clock(60)
    await engine.timers.tick()
    assert await in_flight(engine, task) == instances(1, 2)
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_nothing_drifted(engine)


async def test_a_retry_at_once_needs_no_timer(engine: Engine, hands: Hands) -> None:
    task = await engine.create(batch(parallelism=1, retry={"max_attempts": 3, "backoff": "none"}))
    await hands.succeed("b", result=split(2))
    await hands.fail("w_001", retryable=True)
    assert await in_flight(engine, task) == instances(1)
    await hands.fail("w_001", retryable=True)
    await hands.finish()
    await assert_each_complete_once(engine, task)


async def test_a_lost_worker_makes_room(engine: Engine, hands: Hands) -> None:
    task = await engine.create(batch(parallelism=1, retry={"max_attempts": 1}, failure_strategy="isolate"))
    await hands.succeed("b", result=split(2))
    assert await hands.running() == {"w_001"}
    await engine.move_clock(100)
    await engine.sweeper.tick()  # connects; nothing is swept until one lease time later
    await engine.move_clock(100)
    await engine.sweeper.tick()
    await engine.process()
    assert await in_state(engine, task, "error", "enqueued") == instances(1, 2)


async def test_poison_makes_room(engine: Engine, hands: Hands) -> None:
    task = await engine.create(batch(parallelism=1, failure_strategy="isolate"))
    await hands.succeed("b", result=split(2))
    await hands.submit("w_001", {})
    (msg_id,) = await engine.orchestration.visible("orchestration_step_results", 10)
    assert await engine.orchestration.record_poison("orchestration_step_results", msg_id, "it is")
    assert await in_state(engine, task, "error", "enqueued") == instances(1, 2)


# Repairs


async def test_the_reconciler_sends_lost_messages_again_within_the_limits(
    engine: Engine, hands: Hands
) -> None:
    task = await engine.create(batch(parallelism=2))
    await hands.succeed("b", result=split(5))
    await engine.sql("DELETE FROM pgmq.q_worker_test_queue RETURNING 1")
    await engine.move_clock(100)
    await engine.reconciler.tick()
    assert await hands.running() == instances(1, 2) == await in_flight(engine, task)
    await hands.finish()
    await assert_each_complete_once(engine, task)


async def test_the_reconciler_repairs_counts_and_parents_within_the_limits(
    engine: Engine, hands: Hands
) -> None:
    task = await engine.create(batch(parallelism=2))
    await hands.succeed("b", result=split(5))
    await engine.sql(
        "UPDATE tasker.tasks SET in_flight_steps = 0, satisfied_steps = 0, backoff_steps = 3 RETURNING 1"
    )
    await engine.sql("UPDATE tasker.workflow_steps SET unmet_parents = 1 WHERE name = 'w_004' RETURNING 1")
    await engine.sql("UPDATE tasker.workflow_steps SET unmet_parents = 0 WHERE name = 'c' RETURNING 1")
    await engine.move_clock(100)
    await engine.reconciler.tick()
    await assert_nothing_drifted(engine)
    assert await in_flight(engine, task) == instances(1, 2)
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
