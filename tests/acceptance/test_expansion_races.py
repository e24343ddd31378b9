"""Orchestrators that race for the decisions and batches of one task, and results delivered again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest

from tests.support.dynamic import (
    PULL,
    Hands,
    assert_each_complete_once,
    decide,
    edges,
    fit_brake,
    split,
    workflow,
)
from tests.support.engine import Engine
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    at_once,
    deadlocks,
    duplicate_messages,
    rival,
    start_blocked,
)

BY: dict[str, str] = {"performed_by": "sam", "reason": "it knows"}
JUDGEMENTS = "orchestration_step_judgements"
DECISIONS = workflow(
    "s",
    "d1: decision < s",
    "d2: decision < s",
    "a < d1",
    "b < d2",
    "c: deferred_convergence < a b",
    "end < c",
)
BATCHES = workflow(
    "s", "d1: batchable < s", "d2: batchable < s", "a: batch_worker < d1", "b: batch_worker < d2",
    "c: deferred_convergence < a b", "end < c",
)  # fmt: skip
CASES = [
    (DECISIONS, {"d1": decide("a"), "d2": decide("b")}, {"a", "b"}),
    (BATCHES, {"d1": split(2), "d2": split(1)}, {"a_001", "a_002", "b_001"}),
]


@pytest.fixture
def hands(engine: Engine) -> Hands:
    return Hands(engine)


async def assert_joined(engine: Engine, hands: Hands, task: UUID, expected: set[str]) -> None:
    """Check that what both expanding steps add leads to the one convergence, and that all run to the end."""
    assert set(await edges(engine, task, "c")) == expected
    await hands.finish()
    assert set(await engine.states(task)) == {"s", "d1", "d2", *expected, "c", "end"}
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


# Two orchestrators


@pytest.mark.parametrize("where", ["adding", "completing", "committing"])
@pytest.mark.parametrize(("document", "outcomes", "expected"), CASES, ids=["decisions", "batches"])
async def test_two_that_finish_at_once_share_one_convergence(
    engine: Engine,
    hands: Hands,
    another_engine: Callable[[], Engine],
    document: Mapping[str, Any],
    outcomes: Mapping[str, Any],
    expected: set[str],
    where: str,
) -> None:
    task = await engine.create(document)
    await hands.succeed("s")
    await fit_brake(engine, where)
    async with another_engine() as other, rival(engine) as braking:
        await braking.sql(PULL)
        await hands.submit("d1", outcomes["d1"])
        first = await start_blocked(engine, engine.judgements.tick())
        await hands.submit("d2", outcomes["d2"])
        await at_once(other.judgements.tick())  # the task is busy: the message comes back soon
        assert "c" not in await engine.states(task)
        await braking.rollback()
        await first
        assert (await engine.states(task))["d1"] == "complete"
        await engine.move_clock(1)
        await other.process()
        await assert_joined(engine, hands, task, expected)


@pytest.mark.parametrize(("document", "outcomes", "expected"), CASES, ids=["decisions", "batches"])
async def test_an_operator_at_the_same_time_sees_what_the_other_one_created(
    engine: Engine,
    hands: Hands,
    another_engine: Callable[[], Engine],
    document: Mapping[str, Any],
    outcomes: Mapping[str, Any],
    expected: set[str],
) -> None:
    task = await engine.create(document)
    await hands.succeed("s")
    await fit_brake(engine, "committing")
    d2 = (await hands.take("d2")).step_uuid
    async with another_engine() as other, rival(engine) as braking:
        await braking.sql(PULL)
        await hands.submit("d1", outcomes["d1"])
        first = await start_blocked(engine, engine.judgements.tick())
        by_hand = other.operators.complete_manually(task, d2, result=outcomes["d2"], **BY)
        second = await start_blocked(engine, by_hand)
        await braking.rollback()
        await asyncio.gather(first, second)
        await assert_joined(engine, hands, task, expected)


async def test_many_tasks_on_two_orchestrators_with_every_result_delivered_thrice(
    engine: Engine, another_engine: Callable[[], Engine]
) -> None:
    outcomes = {"d1": decide("a"), "d2": decide("b"), "b": split(5)}
    template = await engine.register(
        workflow(
            "s",
            "d1: decision < s",
            "d2: decision < s",
            "a < d1",
            "b: batchable < d2",
            "w: batch_worker < b",
            "c: deferred_convergence < a w",
            "end < c",
            b={"batch_config": {"worker_template": "w", "parallelism": 2}},
        )
    )
    tasks = [(await engine.request(template)).task.task_uuid for _ in range(20)]
    async with another_engine() as other:
        for _ in range(200):
            claimed = await asyncio.gather(engine.claim(15), other.claim(15))
            for who, steps in zip((engine, other), claimed, strict=True):
                for step in steps:
                    await who.succeed(step, result=outcomes.get(step.name, {}))
            for queue in (JUDGEMENTS, "orchestration_step_results"):
                await duplicate_messages(engine, queue, 2)
            await asyncio.gather(
                *(loop.tick() for who in (engine, other) for loop in (who.results, who.judgements))
            )
            await engine.move_clock(0.1)
            busiest = await engine.sql(
                "SELECT max(n) FROM (SELECT count(*) AS n FROM tasker.workflow_steps "
                "WHERE batch_step_uuid IS NOT NULL AND state IN ('enqueued', 'in_progress') GROUP BY task_uuid) b"
            )
            assert (busiest[0][0] or 0) <= 2
            if not await engine.sql("SELECT 1 FROM tasker.tasks WHERE terminal_at IS NULL"):
                break
        for task in tasks:
            assert set(await edges(engine, task, "c")) == {"a", *(f"w_{n:03}" for n in range(1, 6))}
            await assert_each_complete_once(engine, task)
        await assert_history_is_whole(engine)
        await assert_nothing_drifted(engine)
        assert await engine.sql("SELECT 1 FROM tasker.poison_messages") == []


@pytest.mark.own_database
async def test_no_deadlock_when_expanding_steps_and_operators_meet(
    database_url: str,
) -> None:
    async with Engine(database_url) as engine, Engine(database_url) as other:
        template = await engine.register(DECISIONS)
        tasks = [(await engine.request(template)).task.task_uuid for _ in range(10)]
        await engine.succeed(*await engine.claim())
        await engine.process()
        steps = await engine.claim()
        for step in steps:
            if step.name == "d1":
                await engine.succeed(step, result=decide("a"))
        d2s = {step.task_uuid: step.step_uuid for step in steps if step.name == "d2"}
        await asyncio.gather(
            *(
                other.operators.complete_manually(task, d2s[task], result=decide("b"), **BY)
                for task in reversed(tasks)
            ),
            engine.judgements.tick(),
            other.judgements.tick(),
        )
        await engine.move_clock(1)
        await engine.process()
        for task in tasks:
            assert set(await edges(engine, task, "c")) == {"a", "b"}
        await assert_nothing_drifted(engine)
    assert await deadlocks(database_url) == 0


# Again and again


@pytest.mark.parametrize(("document", "outcomes", "expected"), CASES, ids=["decisions", "batches"])
async def test_fifty_deliveries_on_two_orchestrators_create_each_step_once(
    engine: Engine,
    hands: Hands,
    another_engine: Callable[[], Engine],
    document: Mapping[str, Any],
    outcomes: Mapping[str, Any],
    expected: set[str],
) -> None:
    task = await engine.create(document)
    await hands.succeed("s")
    async with another_engine() as other:
        for name in ("d1", "d2"):
            await hands.submit(name, outcomes[name])
            await duplicate_messages(engine, JUDGEMENTS, 49)
            while await engine.messages(JUDGEMENTS):
                await asyncio.gather(engine.judgements.tick(), other.judgements.tick())
                await engine.move_clock(0.1)
        await assert_joined(engine, hands, task, expected)


async def test_a_task_whose_template_cannot_be_read_does_not_hold_up_others(
    engine: Engine, hands: Hands
) -> None:
    broken = await engine.create(workflow("s1", "d1: decision < s1", "a1 < d1"))
    sound = await engine.create(workflow("s2", "d2: decision < s2", "a2 < d2") | {"name": "sound"})
    await hands.succeed("s1", "s2")
    await hands.submit("d1", decide("a1"))
    await hands.submit("d2", decide("a2"))
    await engine.sql(
        "UPDATE tasker.template_revisions r SET template = '{}' FROM tasker.tasks t "
        "WHERE t.template_digest = r.template_digest AND t.task_uuid = %s RETURNING 1",
        broken,
    )
    async with Engine(engine.url) as other:  # that has not read it before
        await other.process()
    assert await engine.states(broken) == {"s1": "complete", "d1": "error"}
    assert await engine.states(sound) == {"s2": "complete", "d2": "complete", "a2": "enqueued"}
    ((error,),) = await engine.sql("SELECT error ->> 'error_type' FROM tasker.step_results WHERE NOT success")
    assert error == "result_processing_error"
