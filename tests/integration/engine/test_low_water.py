"""Reading a queue from above its dead rows without losing what commits late."""

from __future__ import annotations

import psycopg
import pytest

from tasker.messaging.low_water import LowWater
from tasker.messaging.queues import RESULTS_QUEUE
from tests.support.engine import NAMESPACE, Engine, chain, submission, success
from tests.support.faults import refuse
from tests.support.rivals import rival


class Seconds:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_reading_and_one_a_second_are_full() -> None:
    seconds = Seconds()
    mark = LowWater(seconds)
    assert mark.start() == 0
    mark.saw(7)
    seconds.now += 0.9
    assert mark.start() == 7
    seconds.now += 0.1
    assert mark.start() == 0
    seconds.now += 0.9
    assert mark.start() == 7


def test_what_was_read_less_than_half_a_second_ago_is_read_again() -> None:
    seconds = Seconds()
    mark = LowWater(seconds)
    mark.start()
    mark.saw(5)
    seconds.now += 0.4
    mark.saw(9)
    assert mark.start() == 0
    seconds.now += 0.1
    assert mark.start() == 5
    seconds.now += 0.4
    assert mark.start() == 9


def test_the_mark_never_falls() -> None:
    seconds = Seconds()
    mark = LowWater(seconds)
    mark.start()
    mark.saw(9)
    mark.saw(4)  # a message that committed late
    mark.saw(None)  # a reading that found nothing
    seconds.now += 0.9
    assert mark.start() == 9


def test_after_an_error_everything_is_read() -> None:
    seconds = Seconds()
    mark = LowWater(seconds)
    mark.start()
    mark.saw(9)
    seconds.now += 0.9
    assert mark.start() == 9
    mark.reset()
    assert mark.start() == 0
    seconds.now += 0.9
    assert mark.start() == 0  # nothing seen since


@pytest.fixture
def seconds(engine: Engine) -> Seconds:
    """The clock of the engine's low-water marks."""
    seconds = Seconds()
    engine.orchestration._results_mark = LowWater(seconds)
    engine.worker._low_water.default_factory = lambda: LowWater(seconds)
    return seconds


async def test_a_result_whose_lower_id_commits_late_is_found(engine: Engine, seconds: Seconds) -> None:
    for _ in range(2):
        await engine.create(chain(1))
    late, early = await engine.claim()
    async with rival(engine) as slow:
        await slow.sql(*submission(success(late, {})))
        await engine.succeed(early)  # a higher id, committed first
        assert (await engine.orchestration.process_results(10)).handled == 1
        seconds.now += 0.6
        await slow.commit()
    # The mark is above it by now, which is what the mark is for ...
    assert (await engine.orchestration.process_results(10)).handled == 0
    assert await engine.messages(RESULTS_QUEUE) == 1
    seconds.now += 0.4
    # ... and the full reading of each second finds it.
    assert (await engine.orchestration.process_results(10)).handled == 1
    assert await engine.messages(RESULTS_QUEUE) == 0


async def test_a_result_that_commits_a_moment_late_is_found_at_once(engine: Engine, seconds: Seconds) -> None:
    for _ in range(2):
        await engine.create(chain(1))
    late, early = await engine.claim()
    await engine.orchestration.process_results(10)  # the full reading of this second
    async with rival(engine) as slow:
        await slow.sql(*submission(success(late, {})))
        await engine.succeed(early)
        assert (await engine.orchestration.process_results(10)).handled == 1
        seconds.now += 0.4
        await slow.commit()
    assert (await engine.orchestration.process_results(10)).handled == 1


async def test_after_an_error_the_next_reading_is_full(engine: Engine, seconds: Seconds) -> None:
    for _ in range(3):
        await engine.create(chain(1))
    late, early, third = await engine.claim()
    async with rival(engine) as slow:
        await slow.sql(*submission(success(late, {})))
        await engine.succeed(early)
        assert (await engine.orchestration.process_results(10)).handled == 1
        seconds.now += 0.6
        await slow.commit()
    assert (await engine.orchestration.process_results(10)).handled == 0
    await engine.succeed(third)
    await refuse(engine, "tasker.workflow_steps", "NEW.state = 'complete'", last=1)
    with pytest.raises(psycopg.errors.RaiseException):
        await engine.orchestration.process_results(10)
    assert (await engine.orchestration.process_results(10)).handled == 2


async def test_a_step_whose_message_commits_late_is_claimed(engine: Engine, seconds: Seconds) -> None:
    slow_task = await engine.create(chain(2))
    await engine.succeed(*await engine.claim())
    async with rival(engine) as slow:
        await slow.sql("SELECT * FROM tasker.process_results_v1(10, 0, NULL)")  # enqueues s2, not committed
        await engine.create(chain(2, on_worker_lost="fail") | {"name": "other"})
        assert len(await engine.claim()) == 1
        seconds.now += 0.6
        await slow.commit()
    assert await engine.claim() == []
    seconds.now += 0.4
    (step,) = await engine.claim()
    assert (step.task_uuid, step.name) == (slow_task, "s2")
    assert await engine.messages(f"worker_{NAMESPACE}_queue") == 0
