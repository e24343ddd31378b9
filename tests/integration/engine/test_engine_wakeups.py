"""Hints that there is work, and that everything runs without them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import repeat
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE, channel, worker_queue
from tasker.orchestration.loops.judgements import JudgementLoop
from tasker.orchestration.loops.results import ResultLoop
from tasker.orchestration.loops.runner import LoopRunner
from tasker.orchestration.loops.timers import TimerLoop
from tasker.persistence import listener as listener_module
from tasker.persistence.connections import Row
from tasker.persistence.listener import Listener, Wakeup
from tasker.persistence.operations.watch import announce_watcher
from tests.support.engine import NAMESPACE, Engine, chain, diamond, failure, success
from tests.support.faults import FailingOnce
from tests.support.rivals import (
    PATIENCE_SECONDS,
    disconnect,
    duplicate_messages,
    task_like_others,
    until,
)

WORKERS = channel(worker_queue(NAMESPACE))
RESULTS = channel(RESULTS_QUEUE)
JUDGEMENTS = channel(JUDGEMENTS_QUEUE)
TIMER = "tasker_timer"
TRANSITIONS = "tasker_transitions"


class Ear:
    """Hears every notification of the engine."""

    def __init__(self, engine: Engine, connection: AsyncConnection[Row]) -> None:
        self._engine = engine
        self._connection = connection

    async def heard(self) -> Counter[str]:
        """Return how often each channel was notified since the last call; no payload may say anything."""
        heard: Counter[str] = Counter()
        await self._engine.sql(
            "SELECT pg_notify('that_is_all', '')"
        )  # they arrive in the order of their commits
        async for notification in self._connection.notifies(timeout=PATIENCE_SECONDS):
            assert notification.payload == ""
            if notification.channel == "that_is_all":
                return heard
            heard[notification.channel] += 1
        raise AssertionError("no notification arrives")


@asynccontextmanager
async def listening(engine: Engine) -> AsyncIterator[Ear]:
    """Listen from a session of its own."""
    connection: AsyncConnection[Row] = await AsyncConnection.connect(engine.url, autocommit=True)
    async with connection:
        for name in (WORKERS, RESULTS, JUDGEMENTS, TIMER, TRANSITIONS, "that_is_all"):
            await connection.execute(f"LISTEN {name}".encode())
        yield Ear(engine, connection)


# NOTIFY only when a message was sent, with an empty payload, once per channel and transaction


async def test_each_part_of_the_path_wakes_the_next_one(any_engine: Engine) -> None:
    async with listening(any_engine) as ear:
        await any_engine.create(chain(2))
        assert await ear.heard() == {WORKERS: 1}
        (step,) = await any_engine.claim()
        assert await ear.heard() == {}
        await any_engine.fail(step)
        assert await ear.heard() == {JUDGEMENTS: 1}
        await any_engine.judgements.tick()
        assert await ear.heard() == {TIMER: 1}
        await any_engine.move_clock(10)
        await any_engine.timers.tick()
        assert await ear.heard() == {WORKERS: 1}
        await any_engine.succeed(*await any_engine.claim())
        assert await ear.heard() == {RESULTS: 1}
        await any_engine.results.tick()
        assert await ear.heard() == {WORKERS: 1}
        await any_engine.succeed(*await any_engine.claim())
        assert await ear.heard() == {RESULTS: 1}
        await any_engine.results.tick()
        assert await ear.heard() == {}  # complete: there is nothing more to do


async def test_creating_many_tasks_at_once_notifies_once(any_engine: Engine) -> None:
    await any_engine.create(chain(1))
    async with listening(any_engine) as ear:
        tasks = [await task_like_others(any_engine) for _ in range(10)]
        await any_engine.create_tasks(tasks)
        assert await ear.heard() == {WORKERS: 1}


async def test_a_transaction_notifies_a_channel_once_however_much_it_sends(any_engine: Engine) -> None:
    template = await any_engine.register(diamond())
    for _ in range(10):
        await any_engine.request(template)
    steps = await any_engine.claim()
    async with listening(any_engine) as ear:
        await any_engine.succeed(*steps)
        assert await ear.heard() == {RESULTS: 1}
        await any_engine.results.tick()  # 20 steps become ready
        assert await ear.heard() == {WORKERS: 1}
        steps = await any_engine.claim()
        await any_engine.worker.submit(
            [success(step, {}) for step in steps[:10]] + [failure(step) for step in steps[10:]]
        )
        assert await ear.heard() == {RESULTS: 1, JUDGEMENTS: 1}


async def test_nothing_sent_wakes_nobody(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    async with listening(engine) as ear:
        await engine.claim()
        await engine.worker.submit([])
        await engine.renew([step.lease])
        await engine.results.tick()
        await engine.judgements.tick()
        await engine.timers.tick()
        await engine.sweep_leases(10)
        await engine.reconcile(UUID(int=0), 10, timedelta(0))
        assert await ear.heard() == {}
        step.lease_token, token = uuid4(), step.lease_token
        await engine.succeed(step)  # refused
        assert await ear.heard() == {}
        step.lease_token = token
        await engine.succeed(step)
        await duplicate_messages(engine, RESULTS_QUEUE, copies=2)
        await ear.heard()
        await engine.process()
        assert await ear.heard() == {}
    assert await engine.state(task) == "complete"


async def test_a_refused_create_wakes_nobody(engine: Engine) -> None:
    template = await engine.register(chain(1) | {"identity_strategy": "strict"})
    await engine.request(template)
    async with listening(engine) as ear:
        with pytest.raises(Exception, match="equal context exists already"):
            await engine.request(template)
        assert await ear.heard() == {}


# transitions are hinted only while a watcher exists


async def _watch(engine: Engine, *, steps: bool, seconds: float = 60) -> None:
    await announce_watcher(engine.database, UUID(int=1), steps=steps, seconds=seconds)


async def test_transitions_are_hinted_while_somebody_watches(any_engine: Engine) -> None:
    async with listening(any_engine) as ear:
        await any_engine.create(chain(2))
        assert TRANSITIONS not in await ear.heard()

        await _watch(any_engine, steps=False)
        await any_engine.create(chain(2))
        assert (await ear.heard())[TRANSITIONS] == 1
        first, second = await any_engine.claim()
        await any_engine.succeed(first)
        assert TRANSITIONS not in await ear.heard()  # steps only
        await _watch(any_engine, steps=True)
        await any_engine.succeed(second)
        assert (await ear.heard())[TRANSITIONS] == 1
        await any_engine.process()
        assert (await ear.heard())[TRANSITIONS] >= 1
        await any_engine.claim()
        assert (await ear.heard())[TRANSITIONS] == 1

        await _watch(any_engine, steps=True, seconds=-1)  # gone without a word
        await any_engine.create(chain(2))
        assert TRANSITIONS not in await ear.heard()


# none when pg_notification_queue_usage() passes 0.5


@pytest.mark.own_database
async def test_a_notification_queue_that_fills_up_gets_no_more_hints(database_url: str) -> None:
    async with Engine(database_url) as engine:
        ((name,),) = await engine.sql("SELECT current_database()")
        for statement in (
            "CREATE SCHEMA fake",
            "CREATE FUNCTION fake.pg_notification_queue_usage() RETURNS double precision LANGUAGE sql AS 'SELECT 0.51'",
            f"ALTER DATABASE {name} SET search_path = fake, pg_catalog, public",
        ):
            await engine.database.execute(statement)
    async with Engine(database_url) as engine, listening(engine) as ear:
        task = await engine.create(chain(2))
        await engine.fail(*await engine.claim())
        await engine.process()
        assert await ear.heard() == {}
        await engine.move_clock(10)
        await engine.timers.tick()
        await engine.run(task)  # by polling
        assert await ear.heard() == {}


# one listener per process, reconnecting; a wake-up for everybody then, since hints got lost


async def _woken(wakeup: Wakeup) -> frozenset[str] | None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await wakeup.wait(None)


@asynccontextmanager
async def _listener(engine: Engine, *channels: str) -> AsyncIterator[tuple[Listener, list[Wakeup]]]:
    listener = Listener(engine.database.url_parameters)
    wakeups = [listener.subscribe(name) for name in channels]
    await listener.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await listener.wait_connected()
        yield listener, wakeups
    finally:
        await listener.stop()


async def test_a_listener_wakes_those_whose_channel_has_news(engine: Engine) -> None:
    async with _listener(engine, WORKERS, RESULTS) as (_, (workers, results)):
        assert [await _woken(wakeup) for wakeup in (workers, results)] == [
            None,
            None,
        ]  # connected: look everywhere
        await engine.create(chain(1))
        assert await _woken(workers) == frozenset({WORKERS})
        assert await results.wait(0) is None
        assert not results._event.is_set()


async def test_one_wakeup_may_serve_several_channels(engine: Engine) -> None:
    listener = Listener(engine.database.url_parameters)
    wakeup = listener.subscribe("one", listener.subscribe("two"))
    await listener.start()
    try:
        assert await _woken(wakeup) is None
        async with engine.database.transaction() as transaction:
            await transaction.execute("SELECT pg_notify('one', ''), pg_notify('two', '')")
        heard: set[str] = set()
        while heard != {"one", "two"}:
            heard |= await _woken(wakeup) or set()
    finally:
        await listener.stop()


async def test_a_listener_that_was_cut_off_reconnects_and_wakes_everybody(any_engine: Engine) -> None:
    async with _listener(any_engine, WORKERS, RESULTS) as (listener, wakeups):
        for wakeup in wakeups:
            await _woken(wakeup)
        assert await disconnect(any_engine, query_like="LISTEN%") == 1
        assert [await _woken(wakeup) for wakeup in wakeups] == [None, None]
        assert listener.is_connected
        await any_engine.create(chain(1))
        assert await _woken(wakeups[0]) == frozenset({WORKERS})


async def test_each_interruption_begins_with_a_short_pause(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "pauses", lambda _: repeat(0.001))
    async with _listener(engine, WORKERS) as (_, (wakeup,)):
        await _woken(wakeup)
        with capture_logs() as logs:
            for _ in range(4):
                assert await disconnect(engine, query_like="LISTEN%") == 1
                await _woken(wakeup)
    pauses = [log["retry_seconds"] for log in logs if log["event"] == "listener_disconnected"]
    assert pauses == [0.001] * 4


# polling is the truth


async def test_work_is_found_without_any_notification(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2, retry={"backoff": "none"}))
    broker = any_engine.orchestration
    runners = [
        LoopRunner(ResultLoop(broker, poll_seconds=0.01)),
        LoopRunner(
            JudgementLoop(broker, any_engine.judgements._judge, any_engine.expander, poll_seconds=0.01)
        ),
        LoopRunner(TimerLoop(any_engine.sessions, poll_seconds=0.01)),
    ]
    for runner in runners:
        runner.start()
    try:
        failed = False

        async def complete() -> bool:
            nonlocal failed
            steps = await any_engine.claim()
            if steps and not failed:
                failed = bool(await any_engine.fail(*steps))
            else:
                await any_engine.succeed(*steps)
            return await any_engine.state(task) == "complete"

        await until(complete, "polling does not find the work")
    finally:
        for runner in runners:
            await runner.stop()
    assert sum(step.attempts for step in (await any_engine.steps(task)).values()) == 3


async def test_a_hint_makes_a_sleeping_loop_work_at_once(engine: Engine) -> None:
    async with _listener(engine, RESULTS) as (listener, _):
        runner = LoopRunner(ResultLoop(engine.orchestration, poll_seconds=3600), listener.subscribe(RESULTS))
        runner.start()
        try:
            task = await engine.create(chain(3))

            async def complete() -> bool:
                await engine.succeed(*await engine.claim())
                return await engine.state(task) == "complete"

            await until(complete, "the loop sleeps on")
        finally:
            await runner.stop()


async def test_a_loop_that_fails_goes_on(engine: Engine) -> None:
    loop, wakeup = FailingOnce(3600), Wakeup()
    runner = LoopRunner(loop, wakeup)
    runner.start()
    try:

        async def again() -> bool:
            wakeup.set()
            return loop.ticks > 2 and not runner.failures

        await until(again, "the loop does not go on")
    finally:
        await runner.stop()
