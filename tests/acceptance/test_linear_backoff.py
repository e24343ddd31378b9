"""The gaps of a linear backoff."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine, chain


async def test_a_linear_backoff_of_200_ms_waits_200_and_400(any_engine: Engine) -> None:
    await any_engine.freeze_clock()
    retry = {"max_attempts": 3, "backoff": "linear", "backoff_base_ms": 200}
    task = await any_engine.create(chain(1, retry=retry))
    for gap in (0.2, 0.4):
        await any_engine.fail(*await any_engine.claim())
        await any_engine.process()
        ((wait,),) = await any_engine.sql(
            "SELECT extract(epoch FROM next_retry_at - updated_at)::float FROM tasker.workflow_steps"
        )
        assert wait == pytest.approx(gap, abs=1e-6)
        await any_engine.move_clock(gap - 0.001)
        await any_engine.timers.tick()
        assert await any_engine.states(task) == {"s1": "waiting_for_retry"}
        await any_engine.move_clock(0.001)
        await any_engine.timers.tick()
        assert await any_engine.states(task) == {"s1": "enqueued"}
    await any_engine.fail(*await any_engine.claim())
    await any_engine.process()
    assert await any_engine.states(task) == {"s1": "error"}
