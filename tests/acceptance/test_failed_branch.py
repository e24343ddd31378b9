"""A permanently failed step blocks its descendants and nothing else."""

from __future__ import annotations

from tests.support.engine import Engine, graph
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted

BRANCHES = graph(
    {"root": [], "bad": ["root"], "below": ["bad"], "good": ["root"], "on": ["good"], "join": ["below", "on"]}
)


async def test_the_other_branches_run_on_and_then_the_task_is_blocked(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(BRANCHES)
    await any_engine.succeed(*await any_engine.claim())
    await any_engine.process()
    bad, good = sorted(await any_engine.claim(), key=lambda step: step.name)
    await any_engine.fail(bad, retryable=False)
    await any_engine.process()
    assert await any_engine.state(task) == "steps_in_process"  # good is in flight

    await any_engine.succeed(good)
    await any_engine.process()
    (on,) = await any_engine.claim()
    assert on.name == "on"
    assert await any_engine.state(task) == "steps_in_process"
    await any_engine.succeed(on)
    await any_engine.process()
    assert await any_engine.state(task) == "blocked_by_failures"
    assert await any_engine.states(task) == {
        "root": "complete", "bad": "error", "below": "pending", "good": "complete", "on": "complete", "join": "pending",
    }  # fmt: skip
    assert await any_engine.claim() == []
    await assert_history_is_whole(any_engine, task)
    await assert_nothing_drifted(any_engine)


async def test_a_backoff_elsewhere_keeps_the_task_from_being_blocked(engine: Engine) -> None:
    task = await engine.create(BRANCHES)
    await engine.succeed(*await engine.claim())
    await engine.process()
    bad, good = sorted(await engine.claim(), key=lambda step: step.name)
    await engine.fail(bad, retryable=False)
    await engine.fail(good)
    await engine.process()
    assert await engine.state(task) == "waiting_for_retry"
    await engine.move_clock(10)
    await engine.timers.tick()
    assert await engine.states(task) | {"good": "enqueued", "bad": "error"} == await engine.states(task)
    await engine.succeed(*await engine.claim())
    await engine.process()
    await engine.succeed(*await engine.claim())
    await engine.process()
    assert await engine.state(task) == "blocked_by_failures"
