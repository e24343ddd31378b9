"""How often a step runs, and how long it waits in between."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.support.engine import Engine, chain
from tests.support.rivals import assert_history_is_whole


async def _fail_and_judge(engine: Engine, task: UUID, **more: Any) -> float | None:
    """Have the one step fail; return how long it waits then, or None if it does not run again."""
    (step,) = await engine.claim()
    assert await engine.fail(step, **more) == {step.step_uuid}
    await engine.process()
    ((state, since, due, seconds, wake_at),) = await engine.sql(
        "SELECT s.state, s.updated_at, s.next_retry_at, s.backoff_request_seconds, t.wake_at "
        "FROM tasker.workflow_steps s JOIN tasker.tasks t USING (task_uuid) WHERE task_uuid = %s",
        task,
    )
    if state == "error":
        assert (due, wake_at) == (None, None)
        return None
    assert state == "waiting_for_retry"
    assert due == wake_at
    wait = (due - since).total_seconds()
    assert seconds == -(-(due - since) // timedelta(seconds=1))  # whole seconds, rounded up
    assert isinstance(wait, float)
    return wait


async def _wait(engine: Engine, task: UUID, seconds: float) -> None:
    """Let the wait pass; the step must not run before and must run after."""
    await engine.move_clock(seconds - 0.001)
    await engine.timers.tick()
    assert await engine.states(task) == {"s1": "waiting_for_retry"}
    await engine.move_clock(0.001)
    await engine.timers.tick()
    assert await engine.states(task) == {"s1": "enqueued"}


async def _over(engine: Engine, task: UUID, *, attempts: int) -> None:
    step = (await engine.steps(task))["s1"]
    assert (step.state, step.attempts) == ("error", attempts)
    assert await engine.state(task) == "blocked_by_failures"
    await engine.move_clock(100_000)
    await engine.timers.tick()
    assert await engine.claim() == []
    await assert_history_is_whole(engine, task)


@pytest.mark.parametrize(
    "retry", [{"max_attempts": 1}, {"retryable": False}, {"retryable": False, "max_attempts": 5}]
)
async def test_a_step_that_may_run_once_runs_once(any_engine: Engine, retry: dict[str, Any]) -> None:
    task = await any_engine.create(chain(1, retry=retry))
    assert await _fail_and_judge(any_engine, task) is None
    await _over(any_engine, task, attempts=1)


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 1.0), (1.0, 1.15), (-1.0, 0.85)])
async def test_three_attempts_wait_one_and_two_seconds(
    any_engine: Engine, jitter: float, factor: float
) -> None:
    await any_engine.freeze_clock()
    any_engine.jitter = jitter
    task = await any_engine.create(chain(1, retry={"max_attempts": 3}))
    for exact in (1, 2):
        wait = await _fail_and_judge(any_engine, task)
        assert wait is not None
        assert wait == pytest.approx(exact * factor, abs=1e-6)
        await _wait(any_engine, task, wait)
    assert await _fail_and_judge(any_engine, task) is None
    await _over(any_engine, task, attempts=3)


async def test_a_step_with_attempts_left_completes_the_task(engine: Engine) -> None:
    task = await engine.create(chain(1, retry={"max_attempts": 3}))
    for _ in range(2):
        await _fail_and_judge(engine, task)
        await engine.move_clock(10)
        await engine.timers.tick()
    await engine.run(task)
    assert (await engine.steps(task))["s1"].attempts == 3


def _headers(value: object, name: str = "Retry-After") -> dict[str, Any]:
    return {"orchestration_metadata": {"headers": {name: value}}}


@pytest.mark.parametrize(
    "hint", [_headers(7), _headers("7", "retry-after"), _headers(" 7 ", "RETRY-AFTER")], ids=str
)
async def test_a_server_that_asks_for_seven_seconds_gets_them(
    any_engine: Engine, hint: dict[str, Any]
) -> None:
    await any_engine.freeze_clock()
    any_engine.jitter = 1.0  # a hint is not jittered
    task = await any_engine.create(chain(1))
    assert await _fail_and_judge(any_engine, task, **hint) == 7
    await _wait(any_engine, task, 7)


@pytest.mark.parametrize("asked", [1_000_000, "1000000", 10**30])
async def test_a_server_that_asks_for_weeks_gets_the_global_cap(any_engine: Engine, asked: object) -> None:
    task = await any_engine.create(chain(1))
    assert await _fail_and_judge(any_engine, task, **_headers(asked)) == 3600


async def test_a_date_counts_from_the_engines_clock(engine: Engine) -> None:
    await engine.freeze_clock()
    await engine.move_clock(1_000_000)
    ((date,),) = await engine.sql(
        "SELECT to_char((tasker.now() + '100 s') AT TIME ZONE 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS') || ' GMT'"
    )
    task = await engine.create(chain(1))
    wait = await _fail_and_judge(engine, task, **_headers(date))
    assert wait == pytest.approx(99.5, abs=0.5)  # such a date has no fractions of a second


@pytest.mark.parametrize("past", ["Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5"])
async def test_an_unusable_hint_is_ignored(engine: Engine, past: str) -> None:
    task = await engine.create(chain(1))
    assert await _fail_and_judge(engine, task, **_headers(past)) == 1


@pytest.mark.parametrize("jitter", [-1.0, 0.0, 1.0])
async def test_jitter_never_exceeds_the_cap_of_the_step(any_engine: Engine, jitter: float) -> None:
    any_engine.jitter = jitter
    retry = {"max_attempts": 9, "backoff_base_ms": 1000, "max_backoff_ms": 4000}
    task = await any_engine.create(chain(1, retry=retry))
    waits = []
    for _ in range(5):
        waits.append(await _fail_and_judge(any_engine, task))
        await any_engine.move_clock(10)
        await any_engine.timers.tick()
    exact = [1, 2, 4, 4, 4]
    assert waits == pytest.approx([min(4, wait * (1 + 0.15 * jitter)) for wait in exact], abs=1e-6)


async def test_nor_does_it_exceed_the_global_cap(engine: Engine) -> None:
    engine.jitter = 1.0
    retry = {"backoff_base_ms": 3_600_000, "max_backoff_ms": 3_600_000}
    task = await engine.create(chain(1, retry=retry))
    assert await _fail_and_judge(engine, task) == 3600


@pytest.mark.parametrize("retry", [{}, {"max_attempts": 100}])
async def test_an_error_that_no_retry_helps_ends_at_attempt_one(
    any_engine: Engine, retry: dict[str, Any]
) -> None:
    task = await any_engine.create(chain(1, retry=retry))
    assert await _fail_and_judge(any_engine, task, retryable=False, **_headers(7)) is None
    await _over(any_engine, task, attempts=1)


async def test_a_stored_maximum_of_zero_ends_at_attempt_one(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    await any_engine.database.execute("UPDATE tasker.workflow_steps SET max_attempts = 0")
    assert await _fail_and_judge(any_engine, task) is None
    await _over(any_engine, task, attempts=1)


async def test_the_default_series_ends_at_thirty_seconds(engine: Engine) -> None:
    task = await engine.create(chain(1, retry={"max_attempts": 8}))
    waits = []
    for _ in range(7):
        waits.append(await _fail_and_judge(engine, task))
        await engine.move_clock(60)
        await engine.timers.tick()
    assert waits == [1, 2, 4, 8, 16, 30, 30]
