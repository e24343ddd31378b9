"""Loops that have nothing to do rest, and are late for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import repeat

import psycopg
import pytest

from tasker.domain.retry import LEASE
from tasker.messaging import wakeup as wakeup_module
from tasker.messaging.claim_order import ClaimOrder
from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE, channel, worker_queue
from tasker.messaging.wakeup import MessageWakeup
from tasker.orchestration.loops.runner import LoopRunner
from tasker.persistence import listener as listener_module
from tasker.persistence.listener import Listener
from tasker.persistence.operations.queues import any_messages
from tasker.persistence.operations.sweep import Leases, look_at_leases, sweep_leases
from tasker.persistence.queries import Queries
from tests.support.engine import NAMESPACE, Engine, chain
from tests.support.faults import FailingOnce, send_by_hand
from tests.support.rivals import disconnect
from tests.support.waiting import until, within

WORKERS = worker_queue(NAMESPACE)
NEWS = {"v": 1, "task_uuid": None, "step_uuid": None}


class QuickWakeup(MessageWakeup):
    """Waits for no time at all, and notes how long it would have.

    Attributes:
        waited: The seconds of each wait that nothing ended.
        before_the_wait: What happens before the wait of this number begins.
    """

    def __init__(self, engine: Engine, queues: Sequence[str], listener: Listener) -> None:
        super().__init__(engine.worker_sessions, queues, listener)
        self.waited: list[float] = []
        self.before_the_wait: dict[int, Callable[[], Awaitable[object]]] = {}

    async def _set_within(self, timeout: float | None) -> bool:
        assert timeout is not None
        happens = self.before_the_wait.get(len(self.waited) + 1)
        if happens is not None:
            await happens()
        await asyncio.sleep(0)
        if not self._event.is_set():
            self.waited.append(timeout)
        return self._event.is_set()

    async def stop(self) -> None:
        """End the wait that would begin now."""
        self.set()


@asynccontextmanager
async def resting(engine: Engine, *queues: str) -> AsyncIterator[tuple[QuickWakeup, Listener]]:
    """Lend a wake-up whose listener is connected, and has told so."""
    listener = Listener(engine.database.url_parameters)
    wakeup = QuickWakeup(engine, queues, listener)
    for queue in queues:
        listener.subscribe(channel(queue), wakeup)
    await listener.start()
    try:
        await within(listener.wait_connected())
        await wakeup.wait(0)
        yield wakeup, listener
    finally:
        await listener.stop()


async def test_any_message_counts_visible_or_put_off(any_engine: Engine) -> None:
    queues = ClaimOrder([NAMESPACE, "elsewhere"]).queues()
    assert not await any_messages(any_engine.sessions, [])
    assert not await any_messages(any_engine.sessions, queues)  # nobody has used them yet
    await any_engine.create(chain(1))
    assert await any_messages(any_engine.sessions, queues)
    assert await any_engine.claim(handlers=["another"]) == []  # put back with a delay
    assert await any_messages(any_engine.sessions, queues)
    assert not await any_messages(any_engine.sessions, [RESULTS_QUEUE, JUDGEMENTS_QUEUE])
    await any_engine.move_clock(31)
    assert len(await any_engine.claim()) == 1
    assert not await any_messages(any_engine.sessions, queues)


async def test_empty_queues_are_looked_at_less_and_less_often(engine: Engine) -> None:
    async with resting(engine, RESULTS_QUEUE) as (wakeup, _):
        wakeup.before_the_wait[8] = wakeup.stop
        assert await wakeup.idle(1.0) is None
        assert wakeup.waited == [1, 2, 4, 5, 5, 5, 5]
        wakeup.waited.clear()
        assert await wakeup.idle(1.0) is None  # often again after anything has happened
        assert wakeup.waited[:3] == [1, 2, 4]


async def test_a_loop_does_not_tick_while_nothing_is_there(engine: Engine) -> None:
    """A minute without work is one tick, and about a dozen looks."""

    class Counted:
        name = "counted"
        ticks = 0

        async def tick(self) -> float:
            self.ticks += 1
            return await engine.results.tick()

    async with resting(engine, RESULTS_QUEUE) as (wakeup, _):
        loop = Counted()
        runner = LoopRunner(loop, wakeup)
        minute_is_over = asyncio.Event()

        async def over() -> None:
            minute_is_over.set()

        wakeup.before_the_wait[15] = over
        runner.start()
        await within(minute_is_over.wait())
        await runner.stop()
        assert loop.ticks == 1
        assert sum(wakeup.waited[:14]) >= 60


async def test_a_hint_ends_the_rest_and_says_where_the_news_is(engine: Engine) -> None:
    await engine.register(chain(1))
    async with resting(engine, WORKERS, RESULTS_QUEUE) as (wakeup, _):

        async def hint() -> None:
            await engine.create(chain(1))
            await within(wakeup._event.wait())

        wakeup.before_the_wait[5] = hint
        assert await wakeup.idle(1.0) == frozenset({channel(WORKERS)})
        assert wakeup.waited == [1, 2, 4, 5]


async def test_a_message_whose_hint_was_lost_ends_the_rest_at_the_next_look(engine: Engine) -> None:
    async with resting(engine, RESULTS_QUEUE) as (wakeup, _):
        wakeup.before_the_wait[3] = lambda: send_by_hand(engine, RESULTS_QUEUE, NEWS)
        assert await wakeup.idle(1.0) is None
        assert wakeup.waited == [1, 2, 4]
        assert await wakeup.idle(1.0) is None  # and as long as it is there, every second is a poll
        assert wakeup.waited == [1, 2, 4, 1]


async def test_a_message_that_is_put_off_is_polled_for_every_second(any_engine: Engine) -> None:
    """It becomes visible without a hint, also to workers that others have put it off for."""
    task = await any_engine.create(chain(1))
    assert await any_engine.claim(handlers=["another"]) == []
    async with resting(any_engine, *ClaimOrder([NAMESPACE]).queues()) as (wakeup, _):
        for _ in range(3):
            assert await wakeup.idle(1.0) is None
            assert await any_engine.claim() == []
        await any_engine.move_clock(1)
        assert await wakeup.idle(1.0) is None
        assert [step.task_uuid for step in await any_engine.claim()] == [task]
        assert wakeup.waited == [1] * 4


async def test_what_is_known_to_be_due_soon_is_not_waited_for_longer(engine: Engine) -> None:
    async with resting(engine, RESULTS_QUEUE) as (wakeup, _):
        assert await wakeup.idle(0.05) is None
        assert wakeup.waited == [0.05]


async def test_without_a_listener_every_second_is_a_poll(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "pauses", lambda _: repeat(3600))
    async with resting(engine, RESULTS_QUEUE) as (wakeup, listener):

        async def lose() -> None:
            assert await disconnect(engine, query_like="LISTEN%") == 1
            await within(wakeup._event.wait())

        wakeup.before_the_wait[4] = lose
        assert await wakeup.idle(1.0) is None  # at once
        assert wakeup.waited == [1, 2, 4]
        assert not listener.is_connected
        wakeup.before_the_wait.clear()
        for _ in range(3):
            assert await wakeup.idle(1.0) is None
        assert wakeup.waited == [1, 2, 4, 1, 1, 1]


@pytest.mark.parametrize("error", [psycopg.OperationalError("gone"), psycopg.errors.UndefinedFunction()])
async def test_whoever_cannot_look_leaves_it_to_the_loop(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fails(*_: object) -> bool:
        raise error

    monkeypatch.setattr(wakeup_module, "any_messages", fails)
    async with resting(engine, RESULTS_QUEUE) as (wakeup, _):
        assert await wakeup.idle(1.0) is None
        assert wakeup.waited == [1]


async def test_a_loop_that_failed_is_repeated_whatever_is_in_its_queues(engine: Engine) -> None:
    """Its failures show in the health for as long as no tick has succeeded."""
    async with resting(engine, JUDGEMENTS_QUEUE) as (wakeup, _):
        loop = FailingOnce(1.0)
        runner = LoopRunner(loop, wakeup)
        runner.start()

        async def recovered() -> bool:
            return loop.ticks > 1 and not runner.failures

        await until(recovered)
        await runner.stop()
        assert wakeup.waited[0] == 0.1  # the pause after a failure, before any look


# The sweeper


async def test_the_sweeper_asks_once_a_tick_while_no_lease_has_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def looked(queries: Queries) -> Leases:
        asked.append("look")
        return await look_at_leases(queries)

    async def swept(queries: Queries, limit: int) -> int:
        asked.append("sweep")
        return await sweep_leases(queries, limit)

    monkeypatch.setattr("tasker.orchestration.loops.sweeper.look_at_leases", looked)
    monkeypatch.setattr("tasker.orchestration.loops.sweeper.sweep_leases", swept)
    await engine.create(chain(1))
    await engine.claim()
    await engine.sweeper.tick()
    await engine.move_clock(LEASE.total_seconds() - 1)
    await engine.sweeper.tick()
    assert asked == ["look", "look"]
    await engine.move_clock(2)
    await engine.sweeper.tick()
    assert asked == ["look", "look", "look", "sweep"]
