"""While services are replaced one by one, those of the version before must do no harm."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.dynamic import decide, split, workflow
from tests.support.engine import Engine

DECIDES = workflow("first", "route: decision < first", "branch < route")
SPLITS = workflow("first", "route: batchable < first", "branch: batch_worker < route")


@pytest.mark.parametrize(("document", "result"), [(DECIDES, decide("branch")), (SPLITS, split(1))])
async def test_an_older_orchestrator_leaves_decisions_and_batches_to_others(
    engine: Engine, document: dict[str, Any], result: dict[str, Any]
) -> None:
    task = await engine.create(document)
    await engine.succeed(*await engine.claim())
    await engine.process()
    await engine.succeed(*await engine.claim(), result=result)
    async with engine.database.transaction() as connection:  # as the version before did it
        cursor = await connection.execute(
            b"SELECT step_uuid, state FROM tasker.take_judgements_v1(50, 0, NULL)"
        )
        assert await cursor.fetchall() == [(None, None)]
        await connection.execute(b"SELECT tasker.apply_judgements_v1(%s::jsonb)", (json.dumps([]),))
    assert (await engine.states(task))["route"] == "enqueued_for_orchestration"
    await engine.move_clock(2)
    await engine.process()
    await engine.run(task)
    assert set((await engine.states(task)).values()) == {"complete"}
    assert len(await engine.states(task)) == 3


async def test_an_older_orchestrator_still_judges_failures(engine: Engine) -> None:
    task = await engine.create(DECIDES)
    (step,) = await engine.claim()
    await engine.fail(step)
    async with engine.database.transaction() as connection:
        cursor = await connection.execute(
            b"SELECT step_uuid, state FROM tasker.take_judgements_v1(50, 0, NULL)"
        )
        assert await cursor.fetchall() == [(step.step_uuid, "enqueued_as_error_for_orchestration")]
    assert (await engine.states(task))["first"] == "enqueued_as_error_for_orchestration"
