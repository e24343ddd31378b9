"""Services without work leave the database alone, and still tell whether it answers."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncCursor

from tasker.orchestration.service import OrchestrationService
from tasker.persistence import listener as listener_module
from tasker.persistence import probe as probe_module
from tasker.persistence.listener import Listener, Wakeup
from tasker.persistence.probe import DatabaseProbe
from tests.support import outages, services
from tests.support.clients import Client
from tests.support.engine import Engine
from tests.support.outages import FreezingProxy
from tests.support.rivals import disconnect
from tests.support.waiting import until, within
from tests.support.workshop import Workshop

#: Seconds that pass in one, for all that waits for a wake-up.
PACE = 50


async def test_a_stack_without_work_asks_less_than_twice_a_second(
    database_url: str,
    orchestration: OrchestrationService,
    workshop: Workshop,
    templates: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time is short here and statements take as long as ever: fewer of them fit, so more would be a defect."""
    waited: defaultdict[Wakeup, float] = defaultdict(float)
    statements: Counter[str] = Counter()
    set_within, execute = Wakeup._set_within, AsyncCursor.execute

    async def shortly(wakeup: Wakeup, timeout: float | None) -> bool:
        if await set_within(wakeup, timeout and timeout / PACE):
            return True
        waited[wakeup] += timeout or 0
        return False

    async def counted(cursor: Any, query: Any, *args: Any, **more: Any) -> Any:
        statements[query if isinstance(query, str) else query.decode()] += 1
        return await execute(cursor, query, *args, **more)

    async with services.worker(database_url, workshop.registry, templates) as worker:
        await within(worker.worker.listener.wait_connected())
        await within(orchestration._orchestrator.listener.wait_connected())
        monkeypatch.setattr(Wakeup, "_set_within", shortly)
        monkeypatch.setattr(AsyncCursor, "execute", counted)

        async def two_minutes() -> bool:
            return max(waited.values(), default=0) >= 120

        await until(two_minutes)
        seconds, asked = max(waited.values()), statements.copy()
        monkeypatch.undo()
    assert asked["SELECT tasker.any_messages_v1(%s)"] <= 3 * (seconds / 5 + 4)
    assert asked[probe_module.QUESTION] <= 2 * (seconds / 3 + 2)
    assert asked.total() < 2 * seconds


# The probe


class Told:
    """What a probe has told, and how often it asked."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[bool] = asyncio.Queue()
        self.asked = 0

    async def change(self, ready: bool) -> None:
        self.answers.put_nowait(ready)


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """No question without a reason, while all is well."""
    monkeypatch.setattr(probe_module, "_LONGEST_INTERVAL_SECONDS", 3600)


@pytest.fixture
async def told() -> Told:
    return Told()


@pytest.fixture
async def listener(engine: Engine) -> AsyncIterator[Listener]:
    listener = Listener(engine.database.url_parameters)
    listener.subscribe("anything")
    yield listener
    await listener.stop()


def counting(probe: DatabaseProbe, told: Told) -> DatabaseProbe:
    """Have a probe count its questions."""
    ask = probe._ask

    async def counted() -> str | None:
        told.asked += 1
        return await ask()

    probe._ask = counted  # type: ignore[method-assign]
    return probe


@pytest.fixture
async def probe(engine: Engine, listener: Listener, told: Told) -> AsyncIterator[DatabaseProbe]:
    probe = counting(DatabaseProbe(engine.database, listener, on_change=told.change), told)
    await listener.start()
    await within(listener.wait_connected())
    await probe.start()
    yield probe
    await probe.stop()


@pytest.mark.own_database
@pytest.mark.usefixtures("never", "probe")
async def test_whoever_listens_knows_at_once_that_the_database_goes_and_comes(
    database_url: str, told: Told
) -> None:
    assert await within(told.answers.get()) is True
    async with outages.outage(database_url):
        assert await within(told.answers.get()) is False
    assert await within(told.answers.get()) is True


async def test_the_probe_asks_seldom_only_while_all_is_well(
    listener: Listener, probe: DatabaseProbe, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    waiting = asyncio.Event()

    async def wait(wakeup: Wakeup, timeout: float | None) -> None:
        if wakeup is probe._wakeup:
            waits.append(timeout)
            waiting.set()
        await asyncio.sleep(0.001)

    async def next_wait() -> float | None:
        waiting.clear()
        await within(waiting.wait())
        await asyncio.sleep(0)
        return waits[-1]

    silence = 1.0
    monkeypatch.setattr(probe, "_silence", lambda: silence)
    monkeypatch.setattr(Wakeup, "wait", wait)
    probe._wakeup.set()
    await next_wait()
    asked = told.asked
    for _ in range(3):
        assert await next_wait() == 2.0
    assert told.asked == asked  # others do
    silence = 3.0
    await next_wait()
    await next_wait()
    assert told.asked > asked
    silence = 0.0
    await next_wait()
    assert await next_wait() == 3.0
    monkeypatch.setattr(listener_module, "pauses", lambda _: repeat(3600))
    await listener.stop()
    await probe.check()
    await next_wait()
    assert await next_wait() == 1.0

    async def silent() -> str | None:
        return "silence"

    await listener.start()
    await within(listener.wait_connected())
    await next_wait()
    assert await next_wait() == 3.0
    monkeypatch.setattr(probe, "_ask", silent)
    await probe.check()
    await next_wait()
    await next_wait()
    assert await next_wait() == 1.0


@pytest.mark.usefixtures("never")
async def test_an_answer_serves_for_a_second(
    engine: Engine, listener: Listener, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = counting(DatabaseProbe(engine.database, listener, on_change=told.change), told)
    await asyncio.gather(*(probe.refresh() for _ in range(10)))
    assert (probe.ready, told.asked) == (True, 1)
    monkeypatch.setattr(probe_module, "_INTERVAL_SECONDS", 0)
    await probe.refresh()
    assert told.asked == 2
    await probe.stop()


async def test_a_check_finds_out_by_itself_that_the_database_does_not_answer(
    database_url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection ends when a network goes dead, and the next question would come too late."""
    async with (
        FreezingProxy(database_url, tmp_path_factory.mktemp("pg")) as proxy,
        services.orchestration(proxy.url) as service,
        Client(service.address) as client,
    ):
        await within(service._orchestrator.listener.wait_connected())
        monkeypatch.setattr(probe_module, "_LONGEST_INTERVAL_SECONDS", 3600)
        service._probe._wakeup.set()
        await until(lambda: client.serving())
        monkeypatch.setattr(probe_module, "_INTERVAL_SECONDS", 0)  # any answer is too old
        proxy.freeze()
        assert not await client.serving()
        assert await client.serving("liveness")
        proxy.thaw()
        monkeypatch.undo()
        await until(lambda: client.serving())


async def test_a_listener_that_is_cut_off_alone_does_not_make_a_service_unready(
    engine: Engine, probe: DatabaseProbe, listener: Listener, told: Told
) -> None:
    assert await within(told.answers.get()) is True
    changes = listener.subscribe_connection()
    assert await disconnect(engine, query_like="LISTEN%") == 1
    await within(changes.wait(None))
    asked = told.asked

    async def asked_again() -> bool:
        return told.asked > asked and listener.is_connected

    await until(asked_again)
    assert told.answers.empty()
    assert probe.ready
