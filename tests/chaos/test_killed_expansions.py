"""Orchestrators that die while they carry out what a decision or a batch decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from tests.support.fleet import Fleet
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted, rival, service_sessions
from tests.support.waiting import until

JUDGEMENTS = "orchestration_step_judgements"
DECISION = workflow("s", "it: decision < s", "a < it", "b < it", "c: deferred_convergence < a b", "end < c")
BATCH = workflow("s", "it: batchable < s", "w: batch_worker < it", "c: deferred_convergence < w", "end < c")


@pytest.mark.own_database
@pytest.mark.parametrize("where", ["adding", "completing", "committing"])
@pytest.mark.parametrize(
    ("document", "result", "created"),
    [(DECISION, decide("a", "b"), {"a", "b"}), (BATCH, split(3), {"w_001", "w_002", "w_003"})],
    ids=["decision", "batch"],
)
async def test_an_orchestrator_killed_around_the_commit_creates_each_step_once(
    database_url: str,
    engine: Engine,
    document: Mapping[str, Any],
    result: object,
    created: set[str],
    where: str,
) -> None:
    hands = Hands(engine)
    task = await engine.create(document)
    await hands.succeed("s")
    expanding = (await engine.steps(task))["it"].step_uuid
    async with Fleet(database_url, workers=0) as fleet, rival(engine) as braking:
        (orchestrator,) = fleet.orchestrators
        await fit_brake(engine, where)
        await braking.sql(PULL)
        await hands.submit("it", result)
        await until(
            lambda: service_sessions(engine, "orchestration", waiting=True), what="a transaction at the brake"
        )
        await orchestrator.kill()
        await braking.rollback()

        async def gone() -> bool:
            return not await service_sessions(engine, "orchestration")

        await until(gone, what="the sessions of the killed orchestrator gone")
        if where == "committing":
            assert set(await engine.states(task)) == {"s", "it", *created, "c", "end"}
            assert await engine.messages(JUDGEMENTS) == 0
        else:
            assert await engine.states(task) == {"s": "complete", "it": "enqueued_for_orchestration"}
            assert await engine.messages(JUDGEMENTS) == 1
        await engine.sql(
            f"SELECT tasker.push_to_{JUDGEMENTS}(array_fill(%s::uuid, ARRAY[50]), array_fill(%s::uuid, ARRAY[50]))",
            task,
            expanding,
        )
        await orchestrator.start()

        async def complete() -> bool:
            for name in await hands.running():
                await hands.submit(name, {})
            return await engine.state(task) == "complete" and not await engine.messages(JUDGEMENTS)

        await until(complete, what="the task complete and no result waiting")
    assert set(await engine.states(task)) == {"s", "it", *created, "c", "end"}
    assert set(await edges(engine, task, "c")) == created
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)
    assert await engine.sql("SELECT 1 FROM tasker.poison_messages") == []
