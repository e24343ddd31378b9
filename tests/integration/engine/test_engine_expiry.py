"""Tasks that may take only so long: key `ttl` of their template."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from tasker.domain.errors import InvalidStepTransitionError
from tasker.orchestration.loops.runner import LoopRunner
from tasker.orchestration.loops.timers import TimerLoop
from tasker.persistence.listener import Listener
from tasker.persistence.operations.timers import FiredTimers
from tests.support.engine import Engine, chain, graph
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    at_once,
    now,
    rival,
    start_blocked,
    until,
)

HOUR = 3600


def _hourly(length: int = 2, **more: Any) -> dict[str, Any]:
    return chain(length, **more) | {"ttl": "1h"}


async def _times(engine: Engine, task: UUID) -> tuple[datetime, datetime | None, datetime | None]:
    ((created, expires, wake),) = await engine.sql(
        "SELECT created_at, expires_at, wake_at FROM tasker.tasks WHERE task_uuid = %s", task
    )
    return created, expires, wake


async def _last_transition(engine: Engine, task: UUID) -> tuple[str, str, dict[str, str] | None]:
    ((origin, end, metadata),) = await engine.sql(
        "SELECT from_state, to_state, metadata FROM tasker.task_transitions WHERE task_uuid = %s "
        "ORDER BY sort_key DESC LIMIT 1",
        task,
    )
    return origin, end, metadata


async def _expire(engine: Engine) -> None:
    await engine.move_clock(HOUR)
    await engine.timers.tick()


async def test_the_time_is_kept_from_the_creation_on(any_engine: Engine) -> None:
    await any_engine.move_clock(10 * HOUR)  # it is the engine's clock that counts
    task = await any_engine.create(chain(2) | {"ttl": "1h30m"})
    created, expires, wake = await _times(any_engine, task)
    assert expires == wake == created + timedelta(minutes=90)
    endless = await any_engine.create(chain(1) | {"name": "endless"})
    assert (await _times(any_engine, endless))[1:] == (None, None)


async def test_a_task_expires_with_all_its_steps_and_not_before(any_engine: Engine) -> None:
    await any_engine.freeze_clock()
    task = await any_engine.create(graph({"a": [], "b": [], "c": ["a", "b"], "d": []}) | {"ttl": "1h"})
    running, failing, _ = sorted(await any_engine.claim(), key=lambda step: step.name)
    await any_engine.fail(failing)
    await any_engine.process()
    await any_engine.move_clock(HOUR - 0.001)
    assert (await any_engine.fire_timers(10)).expired == []
    assert await any_engine.state(task) == "steps_in_process"
    await any_engine.move_clock(0.001)
    assert await any_engine.fire_timers(10) == FiredTimers(1, None, [task])

    assert await any_engine.state(task) == "cancelled"
    assert set((await any_engine.states(task)).values()) == {"cancelled"}
    reason = {"event": "cancel", "reason": "ttl_expired"}
    assert await _last_transition(any_engine, task) == ("steps_in_process", "cancelled", reason)
    assert await any_engine.sql(
        "SELECT count(*) FROM tasker.workflow_step_transitions WHERE to_state = 'cancelled' AND metadata = %s::jsonb",
        '{"event": "cancel", "reason": "ttl_expired"}',
    ) == [(4,)]
    assert await any_engine.succeed(running) == set()  # it comes too late
    await any_engine.succeed(*await any_engine.claim())
    await any_engine.process()
    assert await any_engine.state(task) == "cancelled"
    await assert_history_is_whole(any_engine, task)
    await assert_nothing_drifted(any_engine)


@pytest.mark.parametrize("how", ["complete", "cancelled"])
async def test_a_task_that_is_over_by_then_stays(engine: Engine, how: str) -> None:
    task = await engine.create(_hourly())
    if how == "complete":
        await engine.run(task)
    else:
        await engine.operators.cancel(task, reason="no longer wanted")
    before = await _last_transition(engine, task)
    await _expire(engine)
    assert await engine.state(task) == how
    assert await _last_transition(engine, task) == before
    assert (await _times(engine, task))[2] is None


@pytest.mark.parametrize("state", ["blocked_by_failures", "waiting_for_retry"])
async def test_tasks_that_stand_still_expire_too(engine: Engine, state: str) -> None:
    task = await engine.create(_hourly(retry={"backoff_base_ms": 3_600_000, "max_backoff_ms": 3_600_000}))
    await engine.move_clock(10)
    await engine.fail(*await engine.claim(), retryable=state == "waiting_for_retry")
    await engine.process()
    assert await engine.state(task) == state
    await _expire(engine)
    assert (await _last_transition(engine, task))[:2] == (state, "cancelled")
    await assert_nothing_drifted(engine)


async def test_what_is_due_and_what_has_expired_are_told_apart(engine: Engine) -> None:
    due = await engine.create(chain(1) | {"name": "due"})
    await engine.fail(*await engine.claim())
    await engine.process()
    expired = await engine.create(_hourly())
    await engine.move_clock(HOUR)
    with capture_logs() as logs:
        await engine.timers.tick()
    assert (await engine.state(due), await engine.state(expired)) == ("steps_in_process", "cancelled")
    assert [(log["event"], log["task_uuid"]) for log in logs] == [("task_expired", str(expired))]


async def test_a_hundred_expire_in_one_call(any_engine: Engine) -> None:
    template = await any_engine.register(_hourly(3))
    await asyncio.gather(*(any_engine.request(template) for _ in range(120)))
    await any_engine.claim(50)
    await any_engine.move_clock(HOUR)
    assert [len((await any_engine.fire_timers(100)).expired) for _ in range(3)] == [100, 20, 0]
    assert await any_engine.sql("SELECT DISTINCT state FROM tasker.workflow_steps") == [("cancelled",)]
    assert await any_engine.sql("SELECT DISTINCT state FROM tasker.tasks") == [("cancelled",)]
    await assert_history_is_whole(any_engine)
    await assert_nothing_drifted(any_engine)


async def test_a_task_that_somebody_has_locked_expires_with_the_next_tick(engine: Engine) -> None:
    task, free = await engine.create(_hourly()), await engine.create(_hourly())
    await engine.move_clock(HOUR)
    async with rival(engine) as other:
        await other.lock("tasks", task)
        assert await at_once(engine.timers.tick()) == 0.05  # soon again
        assert (await engine.state(task), await engine.state(free)) == ("steps_in_process", "cancelled")
    await engine.timers.tick()
    assert await engine.state(task) == "cancelled"


async def test_a_last_result_that_locks_the_task_first_wins(engine: Engine) -> None:
    task = await engine.create(_hourly(1))
    await engine.succeed(*await engine.claim())
    await engine.move_clock(HOUR)
    async with rival(engine) as other:
        await other.sql("SELECT * FROM tasker.process_results_v1(10, 0, NULL)")
        assert (await at_once(engine.fire_timers(10))).woken == 0
        await other.commit()
    assert (await engine.fire_timers(10)).woken == 0
    assert await engine.state(task) == "complete"
    await assert_history_is_whole(engine, task)


async def test_an_expiry_that_locks_the_task_first_wins(engine: Engine) -> None:
    task = await engine.create(_hourly(1))
    await engine.succeed(*await engine.claim())
    await engine.move_clock(HOUR)
    async with rival(engine) as other:
        await other.sql("SELECT * FROM tasker.fire_timers_v1(10)")
        assert (await at_once(engine.orchestration.process_results(10))).delayed == 1
        await other.commit()
    await engine.move_clock(1)
    await engine.process()
    assert await engine.state(task) == "cancelled"
    assert await engine.states(task) == {"s1": "cancelled"}
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_a_claim_that_comes_first_is_cancelled_and_one_that_comes_later_finds_nothing(
    engine: Engine,
) -> None:
    task = await engine.create(graph({"early": [], "late": []}) | {"ttl": "1h"})
    early = (await engine.steps(task))["early"].step_uuid
    await engine.move_clock(HOUR)
    async with rival(engine) as other:
        assert await other.claim(task, early) == [early]
        expiring = await start_blocked(engine, engine.fire_timers(10))
        await other.commit()
    assert (await expiring).expired == [task]
    assert await engine.claim() == []
    assert set((await engine.states(task)).values()) == {"cancelled"}
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_timers_side_by_side_cancel_each_task_once(database_url: str) -> None:
    async with Engine(database_url) as one, Engine(database_url) as two:
        template = await one.register(_hourly())
        tasks = {(await one.request(template)).task.task_uuid for _ in range(30)}
        await one.move_clock(HOUR)
        expired: list[UUID] = []

        async def none_left() -> bool:
            for woken in await asyncio.gather(*(e.fire_timers(7) for e in (one, two))):
                expired.extend(woken.expired)
            return len(expired) >= len(tasks)

        await until(none_left, "tasks do not expire")
        assert sorted(expired) == sorted(tasks)
        await assert_history_is_whole(one)


async def test_an_orchestrator_of_the_last_release_expires_tasks_as_well(engine: Engine) -> None:
    task = await engine.create(_hourly())
    await engine.move_clock(HOUR)
    assert await engine.sql("SELECT woken, next_due_ms FROM tasker.fire_timers_v1(10)") == [(1, None)]
    assert await engine.state(task) == "cancelled"


# A task in `error` that an operator resumes


async def _in_error(engine: Engine) -> tuple[UUID, UUID]:
    """Create a task whose step has failed and that was then given up."""
    task = await engine.create(_hourly(1))
    (step,) = await engine.claim()
    await engine.fail(step, retryable=False)
    await engine.process()
    await engine.database.execute(
        "WITH given_up AS (UPDATE tasker.tasks SET state = 'error', sort_key = sort_key + 1, wake_at = NULL, "
        "terminal_at = tasker.now() RETURNING task_uuid, sort_key) INSERT INTO tasker.task_transitions "
        "(task_uuid, sort_key, from_state, to_state, created_at) "
        "SELECT task_uuid, sort_key, 'blocked_by_failures', 'error', tasker.now() FROM given_up"
    )
    return task, step.step_uuid


async def test_a_task_that_is_resumed_has_its_whole_time_again(any_engine: Engine) -> None:
    await any_engine.freeze_clock()
    task, step = await _in_error(any_engine)
    await any_engine.move_clock(50 * HOUR)
    await any_engine.timers.tick()
    assert await any_engine.state(task) == "error"  # it is over: nothing expires
    before = await now(any_engine)
    await any_engine.operators.reset_for_retry(task, step, performed_by="ada", reason="repaired")
    _, expires, wake = await _times(any_engine, task)
    assert expires == wake
    assert expires is not None
    assert expires - before == timedelta(hours=1)
    await any_engine.timers.tick()
    assert await any_engine.states(task) == {"s1": "enqueued"}
    await _expire(any_engine)
    assert await any_engine.state(task) == "cancelled"
    await assert_history_is_whole(any_engine, task)


async def test_a_blocked_task_that_has_expired_cannot_be_resumed(engine: Engine) -> None:
    task = await engine.create(_hourly(1))
    (step,) = await engine.claim()
    await engine.fail(step, retryable=False)
    await engine.process()
    await _expire(engine)
    with pytest.raises(InvalidStepTransitionError, match="cancelled"):
        await engine.operators.reset_for_retry(task, step.step_uuid, performed_by="ada", reason="repaired")


# The loop knows in time


@pytest.mark.parametrize("ttl", ["1s", "9s"])
async def test_a_short_time_wakes_the_loop_that_sleeps(engine: Engine, ttl: str) -> None:
    listener = Listener(engine.database.url_parameters)
    ticks = _Ticks(TimerLoop(engine.sessions, poll_seconds=3600))
    runner = LoopRunner(ticks, listener.subscribe("tasker_timer"))
    await listener.start()
    await listener.wait_connected()
    runner.start()
    try:
        await until(ticks.asleep_for_long, "the loop does not go to sleep")
        await engine.create(chain(1) | {"ttl": ttl})

        async def knows() -> bool:
            return ticks.wait < 10

        await until(knows, "the loop sleeps on")
    finally:
        await runner.stop()
        await listener.stop()


class _Ticks:
    """Tells for how long a loop has gone to sleep."""

    def __init__(self, loop: TimerLoop) -> None:
        self._loop = loop
        self.name = loop.name
        self.wait = 0.0

    async def tick(self) -> float:
        self.wait = await self._loop.tick()
        return self.wait

    async def asleep_for_long(self) -> bool:
        return self.wait > 10
