"""The one timer: `tasks.wake_at`, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from tasker.orchestration.loops.runner import LoopRunner
from tasker.orchestration.loops.timers import TimerLoop
from tasker.persistence.listener import Listener
from tasker.persistence.operations.timers import FiredTimers
from tests.support.engine import Engine, chain, graph
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted, until

WORKERS = "worker_test_queue"


def _pair(first_ms: int, second_ms: int) -> dict[str, object]:
    """Two independent steps whose retries wait for these times."""
    document = graph({"first": [], "second": []})
    for step, base in zip(document["steps"], (first_ms, second_ms), strict=True):
        step["retry"] = {"backoff": "linear", "backoff_base_ms": base, "max_backoff_ms": 3_600_000}
    return document


async def _wake_at(engine: Engine, task: UUID) -> datetime | None:
    ((wake_at,),) = await engine.sql("SELECT wake_at FROM tasker.tasks WHERE task_uuid = %s", task)
    assert wake_at is None or isinstance(wake_at, datetime)
    return wake_at


async def _due(engine: Engine, task: UUID, name: str) -> datetime:
    ((due,),) = await engine.sql(
        "SELECT next_retry_at FROM tasker.workflow_steps WHERE task_uuid = %s AND name = %s", task, name
    )
    assert isinstance(due, datetime)
    return due


async def test_a_retry_is_enqueued_when_it_is_due_and_not_before(any_engine: Engine) -> None:
    await any_engine.freeze_clock()
    task = await any_engine.create(chain(1, retry={"backoff_base_ms": 1000}))
    await any_engine.fail(*await any_engine.claim())
    await any_engine.process()
    await any_engine.move_clock(0.999)
    assert (await any_engine.fire_timers(10)).woken == 0
    assert await any_engine.states(task) == {"s1": "waiting_for_retry"}
    await any_engine.move_clock(0.001)
    assert (await any_engine.fire_timers(10)).woken == 1
    assert await any_engine.states(task) == {"s1": "enqueued"}
    assert await any_engine.state(task) == "steps_in_process"
    assert await any_engine.messages(WORKERS) == 1
    assert await _wake_at(any_engine, task) is None
    await assert_history_is_whole(any_engine, task)


async def test_the_timer_is_set_to_the_earliest_retry_and_then_to_the_next(any_engine: Engine) -> None:
    task = await any_engine.create(_pair(100_000, 200_000))
    first, second = sorted(await any_engine.claim(), key=lambda step: step.name)
    await any_engine.fail(second)
    await any_engine.process()
    assert await _wake_at(any_engine, task) == await _due(any_engine, task, "second")
    await any_engine.fail(first)  # an earlier one
    await any_engine.process()
    assert await _wake_at(any_engine, task) == await _due(any_engine, task, "first")

    await any_engine.move_clock(100)
    await any_engine.timers.tick()
    assert await any_engine.states(task) == {"first": "enqueued", "second": "waiting_for_retry"}
    assert await _wake_at(any_engine, task) == await _due(any_engine, task, "second")
    await any_engine.move_clock(100)
    await any_engine.timers.tick()
    assert await any_engine.states(task) == {"first": "enqueued", "second": "enqueued"}
    assert await _wake_at(any_engine, task) is None
    await assert_nothing_drifted(any_engine)


async def test_a_retry_fires_while_another_branch_runs(engine: Engine) -> None:
    task = await engine.create(_pair(1000, 1000))
    first, _ = sorted(await engine.claim(), key=lambda step: step.name)
    await engine.fail(first)
    await engine.process()
    assert await engine.state(task) == "steps_in_process"
    await engine.move_clock(1)
    await engine.timers.tick()
    assert await engine.states(task) == {"first": "enqueued", "second": "in_progress"}


async def test_the_loop_sleeps_until_the_next_timer_but_no_longer_than_its_poll(engine: Engine) -> None:
    await engine.freeze_clock()
    timers = TimerLoop(engine.sessions, poll_seconds=500)
    assert await timers.tick() == 500
    await engine.create(chain(1, retry={"backoff_base_ms": 100_000, "max_backoff_ms": 100_000}))
    await engine.fail(*await engine.claim())
    await engine.process()
    assert await timers.tick() == 100
    assert await engine.timers.tick() == 5


async def test_more_due_tasks_than_a_group_are_taken_at_once_one_group_after_the_other(
    engine: Engine,
) -> None:
    tasks = [await engine.create(chain(1)) for _ in range(5)]
    await engine.fail(*await engine.claim())
    await engine.process()
    await engine.move_clock(10)
    timers = TimerLoop(engine.sessions, group_size=2)
    assert [await timers.tick() for _ in range(3)] == [0, 0, 5]
    assert [await engine.states(task) for task in tasks] == [{"s1": "enqueued"}] * 5


async def test_a_timer_set_for_nothing_fires_once(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.database.execute("UPDATE tasker.tasks SET wake_at = tasker.now() - interval '1 s'")
    assert await engine.fire_timers(10) == FiredTimers(1, None, [])
    assert await _wake_at(engine, task) is None
    assert await engine.messages(WORKERS) == 1  # the one from its creation
    await assert_history_is_whole(engine, task)


async def test_timers_side_by_side_enqueue_each_retry_once(database_url: str) -> None:
    async with Engine(database_url) as one, Engine(database_url) as two:
        for _ in range(20):
            await one.create(chain(1))
        await one.fail(*await one.claim())
        await one.process()
        await one.move_clock(10)

        async def none_left() -> bool:
            await asyncio.gather(one.fire_timers(7), two.fire_timers(7))
            return not await one.sql("SELECT 1 FROM tasker.tasks WHERE wake_at IS NOT NULL")

        await until(none_left, "retries that are due are not enqueued")
        assert await one.messages(WORKERS) == 20
        await assert_history_is_whole(one)
        await assert_nothing_drifted(one)


# the loop is hinted when an earlier timer commits


@pytest.mark.parametrize("sleeping_until", ["its poll", "a later timer"])
async def test_an_earlier_timer_that_commits_wakes_the_loop(engine: Engine, sleeping_until: str) -> None:
    if sleeping_until == "a later timer":
        later = chain(1, retry={"backoff_base_ms": 900_000, "max_backoff_ms": 900_000})
        await engine.create(later | {"name": "later"})
        await engine.fail(*await engine.claim())
        await engine.process()
    task = await engine.create(chain(1, retry={"backoff": "none"}))
    (step,) = await engine.claim()
    listener = Listener(engine.database.url_parameters)
    ticks = _Counted(TimerLoop(engine.sessions, poll_seconds=3600))
    runner = LoopRunner(ticks, listener.subscribe("tasker_timer"))
    await listener.start()
    await listener.wait_connected()
    runner.start()
    try:
        await until(ticks.asleep, "the loop does not go to sleep")
        await engine.fail(step)
        await engine.process()

        async def enqueued() -> bool:
            return await engine.states(task) == {"s1": "enqueued"}

        await until(enqueued, "the loop sleeps on")
    finally:
        await runner.stop()
        await listener.stop()


class _Counted:
    """Tells when a loop has gone to sleep for long."""

    def __init__(self, loop: TimerLoop) -> None:
        self._loop = loop
        self.name = loop.name
        self._wait = 0.0

    async def tick(self) -> float:
        self._wait = 0.0
        self._wait = await self._loop.tick()
        return self._wait

    async def asleep(self) -> bool:
        return self._wait > timedelta(minutes=10).total_seconds()
