"""Streams that scale: one reading for all, bounded streams and watchers, and nothing lost whatever is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode, aio
from psycopg import AsyncCursor

from tasker.orchestration.engine import streams as stream_module
from tasker.orchestration.engine import watching as watching_module
from tasker.orchestration.service import OrchestrationService
from tasker.persistence.listener import Listener
from tests.integration.services.updates import COMPLETE, STEP_CHANGE, TASK_CHANGE, read, shown, state
from tests.support import services
from tests.support.clients import Client, Refusal, Update, refused
from tests.support.engine import Engine, chain, graph
from tests.support.rivals import rival, task_like_others
from tests.support.waiting import until, within

Stream = aio.UnaryStreamCall[Any, Update]

#: What stands in the statement that reads for all watchers.
READING = "committed on some tasks"


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Tell how often what was committed has been read since the last time this was asked."""
    count = 0
    execute = AsyncCursor.execute

    async def counted(cursor: Any, query: Any, *args: Any, **more: Any) -> Any:
        nonlocal count
        count += READING in (query if isinstance(query, str) else query.decode())
        return await execute(cursor, query, *args, **more)

    def since() -> int:
        nonlocal count
        told, count = count, 0
        return told

    monkeypatch.setattr(AsyncCursor, "execute", counted)
    return since


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only hints have anything read."""
    for name in (
        "_FIRST_POLL_SECONDS",
        "_POLL_AFTER_NEWS_SECONDS",
        "_SLOWEST_POLL_SECONDS",
        "_DEAF_POLL_SECONDS",
    ):
        monkeypatch.setattr(watching_module, name, 3600.0)


@pytest.fixture
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long where no hint comes."""
    for name in (
        "_FIRST_POLL_SECONDS",
        "_POLL_AFTER_NEWS_SECONDS",
        "_SLOWEST_POLL_SECONDS",
        "_DEAF_POLL_SECONDS",
    ):
        monkeypatch.setattr(watching_module, name, 0.05)


@pytest.fixture
async def narrow(orchestration: OrchestrationService) -> AsyncIterator[Client]:
    """A client whose connection holds little that it has not read: usually it grows with what comes."""
    options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096))
    async with Client(orchestration.address, options=options) as client:
        yield client


async def created(engine: Engine, count: int) -> list[str]:
    """Return so many tasks of one step."""
    await engine.create(chain(1))
    tasks = [await task_like_others(engine) for _ in range(count)]
    return [str(task_uuid) for task_uuid in await engine.create_tasks(tasks)]


# One reading for all


@pytest.mark.usefixtures("no_polls")
async def test_a_thousand_streams_cost_one_reading_a_hint(
    client: Client, engine: Engine, readings: Callable[[], int]
) -> None:
    tasks = await created(engine, 1000)
    streams = [client.stream(task_uuid) for task_uuid in tasks]
    await asyncio.gather(*map(read, streams))
    readings()
    await engine.operators.cancel(UUID(tasks[0]))
    assert [state(update) async for update in streams[0]] == ["cancelled", "cancelled"]
    assert readings() <= 2  # one for the hint, and one that their beginning may have left due
    steps = await engine.claim(1000)
    while steps:
        await engine.succeed(*steps)
        await engine.process()
        steps = await engine.claim(1000)
    told = await asyncio.gather(*(_rest(stream) for stream in streams[1:]))
    assert {tuple(state(update) for update in updates) for updates in told} == {("complete", "complete")}
    # Each transaction that completed some of them is a hint; how many that were depends on nothing but the groups.
    assert readings() <= 60


@pytest.mark.usefixtures("fast_polls")
async def test_a_thousand_idle_streams_share_one_poll(
    orchestration: OrchestrationService, client: Client, engine: Engine, readings: Callable[[], int]
) -> None:
    tasks = await created(engine, 1000)
    streams = [client.stream(task_uuid) for task_uuid in tasks]
    await asyncio.gather(*map(read, streams))
    polls = 0
    wait = orchestration._orchestrator.watching._wakeup.wait

    async def counted(timeout: float | None) -> frozenset[str] | None:
        nonlocal polls
        channels = await wait(timeout)
        polls += 1
        return channels

    orchestration._orchestrator.watching._wakeup.wait = counted  # type: ignore[method-assign]
    readings()
    await until(lambda: polls >= 10)
    assert readings() <= polls + 1
    for stream in streams:
        stream.cancel()
    await until(lambda: orchestration._streams.count == 0)


async def _rest(stream: Stream) -> list[Update]:
    return [update async for update in stream]


# Bounds


async def test_calls_do_not_wait_for_streams_of_their_connection(client: Client, engine: Engine) -> None:
    tasks = await created(engine, 300)
    streams = [client.stream(task_uuid) for task_uuid in tasks]
    await asyncio.gather(*map(read, streams))
    assert (await within(client.create())).task_uuid
    for stream in streams:
        stream.cancel()


async def test_a_connection_with_too_many_streams_is_told(
    orchestration: OrchestrationService, client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.rpc.streams.MOST_STREAMS_OF_CONNECTION", 3)
    (task_uuid,) = await created(engine, 1)
    streams = [client.stream(task_uuid) for _ in range(3)]
    for stream in streams:
        await read(stream)
    for call in (client.watch(task_uuid), _opened(client)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert "another connection" in refusal.message
    streams[0].cancel()
    await until(lambda: orchestration._streams.count == 2)
    await read(client.stream(task_uuid))


async def _opened(client: Client) -> None:
    await anext(aiter(client.feed()))


async def test_a_service_with_too_many_streams_says_so(database_url: str, engine: Engine) -> None:
    (task_uuid,) = await created(engine, 1)
    async with (
        services.orchestration(database_url, max_open_streams=2) as service,
        Client(service.address) as client,
    ):
        streams = [client.stream(task_uuid), client.stream(task_uuid)]
        for stream in streams:
            await read(stream)
        refusal = await refused(client.watch(task_uuid))
        assert (refusal.code, refusal.facts) == (StatusCode.RESOURCE_EXHAUSTED, {"limit": "2"})
        assert "another server" in refusal.message
        assert (await client.get(task_uuid)).task_uuid == task_uuid


async def _much_happens(engine: Engine, task_uuid: str, *, rounds: int) -> None:
    """Let a step of a task move 500 times a round, each round a transaction with its hint."""
    ((step,),) = await engine.sql(
        "SELECT step_uuid FROM tasker.workflow_steps WHERE task_uuid = %s", UUID(task_uuid)
    )
    for number in range(rounds):
        await engine.sql(
            "INSERT INTO tasker.workflow_step_transitions (task_uuid, step_uuid, sort_key, from_state, to_state, "
            "attempt, created_at) SELECT %s, %s, 1000 + n, 'enqueued', 'in_progress', n, tasker.now() "
            "FROM generate_series(%s::integer, %s::integer) n",
            UUID(task_uuid), step, number * 500, number * 500 + 499,
        )  # fmt: skip
        await engine.sql("SELECT pg_notify('tasker_transitions', '')")


@pytest.mark.usefixtures("fast_polls")
async def test_a_watcher_that_does_not_read_is_cut_off_and_misses_nothing(
    orchestration: OrchestrationService,
    client: Client,
    narrow: Client,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(watching_module, "PATIENCE_SECONDS", 0.3)
    (task_uuid,) = await created(engine, 1)
    stream = narrow.stream(task_uuid, include_steps=True)
    first = await read(stream)
    (served,) = orchestration._orchestrator.watching._streams
    waiting = 0
    happening = asyncio.create_task(_much_happens(engine, task_uuid, rounds=6))

    def is_cut_off() -> bool:
        nonlocal waiting
        waiting = max(waiting, served._waiting)
        return served._failure is not None

    await until(is_cut_off, what="the watcher is cut off")
    assert waiting < 256 + 5 * 500  # what one reading brings on top of what is much
    assert not served._groups
    await happening
    told = [first]
    refusal = await _refusal(stream, told)
    assert (refusal.code, refusal.reason) == (StatusCode.RESOURCE_EXHAUSTED, "SLOW_WATCHER")
    cursor = [update.cursor for update in told if update.cursor][-1]
    assert cursor in refusal.message
    again = client.stream(task_uuid, include_steps=True, resume_cursor=cursor)
    numbers = [update.step_update.attempt for update in told[1:]]
    while len(numbers) < 6 * 500:
        numbers.append((await read(again)).step_update.attempt)
    assert numbers == list(range(6 * 500))


async def _refusal(stream: Stream, told: list[Update]) -> Refusal:
    async def drain() -> None:
        async for update in stream:
            told.append(update)

    refusal = await within(refused(drain()))
    assert isinstance(refusal, Refusal)
    return refusal


# Nothing is lost


@pytest.mark.usefixtures("fast_polls")
async def test_a_hint_that_is_lost_costs_a_poll(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = asyncio.Event()
    wake = Listener._wake

    def lose(listener: Listener, channel: str) -> None:
        if channel == "tasker_transitions":
            lost.set()
        else:
            wake(listener, channel)

    (task_uuid,) = await created(engine, 1)
    stream = client.stream(task_uuid)
    await read(stream)
    monkeypatch.setattr(Listener, "_wake", lose)
    await _complete(engine)
    assert [update.update_type async for update in stream] == [TASK_CHANGE, COMPLETE]
    await within(lost.wait())


async def _complete(engine: Engine) -> None:
    await engine.succeed(*await engine.claim())
    await engine.process()


@pytest.mark.own_database
@pytest.mark.usefixtures("no_polls")
async def test_streams_go_on_when_their_connections_are_lost(
    orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    """The one that listens comes back and has everything read; the one that reads is replaced."""
    tasks = await created(engine, 2)
    streams = [client.stream(task_uuid, include_steps=True) for task_uuid in tasks]
    for stream in streams:
        await read(stream)
    async with rival(engine) as operator:
        killed = await operator.sql(
            "SELECT query FROM (SELECT query, pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = "
            "current_database() AND application_name = 'tasker-orchestration') killed"
        )
    assert any("LISTEN" in query for (query,) in killed)
    await _complete(engine)
    for stream in streams:
        assert [update.update_type async for update in stream][-2:] == [TASK_CHANGE, COMPLETE]


async def test_what_was_under_way_when_the_first_one_watched_is_told(client: Client, engine: Engine) -> None:
    """Its transaction has looked for watchers before there was one, and hints nothing."""
    (task_uuid,) = await created(engine, 1)
    async with rival(engine) as other:
        await other.sql("SELECT tasker.cancel_task_v1(%s, '{}')", UUID(task_uuid))
        stream = client.stream(task_uuid)
        assert state(await read(stream)) == "steps_in_process"
        await other.commit()
        assert [state(update) async for update in stream] == ["cancelled", "cancelled"]


@pytest.mark.usefixtures("no_polls")
async def test_what_is_committed_between_reading_and_watching_is_told(
    orchestration: OrchestrationService, client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint comes when the stream has read how the task stands, and is not yet read for."""
    (task_uuid, other) = await created(engine, 2)
    await read(client.stream(other))
    reader = orchestration._orchestrator._transitions
    task = reader.task
    watching = orchestration._orchestrator.watching

    async def read_and_wait(task_uuid: UUID, *, steps: bool) -> Any:
        seen = await task(task_uuid, steps=steps)
        (pending,) = (stream for stream in watching._streams if stream.snapshot is None)
        await engine.operators.cancel(task_uuid)
        await until(lambda: pending.hinted)
        return seen

    monkeypatch.setattr(reader, "task", read_and_wait)
    told = [state(update) async for update in client.stream(task_uuid)]
    assert told == ["steps_in_process", "cancelled", "cancelled"]


async def test_two_orchestrators_tell_the_same(database_url: str, client: Client, engine: Engine) -> None:
    (task_uuid,) = await created(engine, 1)
    async with services.orchestration(database_url) as second, Client(second.address) as other:
        streams = [one.stream(task_uuid, include_steps=True, resume_cursor="") for one in (client, other)]
        told = [await read(stream) for stream in streams]
        await _complete(engine)
        rest = [await _rest(stream) for stream in streams]
        assert shown([told[0], *rest[0]]) == shown([told[1], *rest[1]])
        assert rest[0][-1].update_type == COMPLETE


# Order


async def test_instants_never_run_backwards_though_commits_do(client: Client, engine: Engine) -> None:
    await engine.register(graph({"a": [], "b": []}))
    task_uuid = (await client.create()).task_uuid
    steps = await engine.steps(UUID(task_uuid))
    stream = client.stream(task_uuid, include_steps=True)
    first = await read(stream)
    async with rival(engine) as other:
        await other.sql(
            "INSERT INTO tasker.workflow_step_transitions (task_uuid, step_uuid, sort_key, from_state, to_state, "
            "attempt, created_at) VALUES (%s, %s, 100, 'enqueued', 'in_progress', 7, tasker.now() - interval '1 h')",
            UUID(task_uuid),
            steps["b"].step_uuid,
        )
        assert [step.name for step in await engine.claim(1)] == ["a"]
        early = await read(stream)
        await other.sql("SELECT pg_notify('tasker_transitions', '')")
        await other.commit()
    late = await read(stream)
    assert [early.step_update.attempt, late.step_update.attempt] == [1, 7]
    instants = [update.timestamp.ToNanoseconds() for update in (first, early, late)]
    assert instants == sorted(instants)
    # Whoever goes on behind the first of the two is told the same.
    resumed = await read(client.stream(task_uuid, include_steps=True, resume_cursor=early.cursor))
    for update in (resumed, late):
        update.ClearField("cursor")  # it also says which other transactions were under way
    assert resumed == late
    # In one reading the order is that of the instants.
    whole = client.stream(task_uuid, include_steps=True, resume_cursor="")
    told = [await read(whole) for _ in range(5)]
    assert [update.step_update.attempt for update in told if update.update_type == STEP_CHANGE] == [
        0,
        0,
        7,
        1,
    ]
    instants = [update.timestamp.ToNanoseconds() for update in told]
    assert instants == sorted(instants)


async def test_a_cursor_belongs_to_its_task_and_its_database(client: Client, engine: Engine) -> None:
    task_uuid, other = await created(engine, 2)
    cursor = (await read(client.stream(other))).cursor
    task_scope = (await read(client.stream(task_uuid))).cursor.partition(".")[0]
    ((upcoming,),) = await engine.sql(
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 1000000"
    )
    for bad, word in (
        (cursor, "no cursor of this stream"),
        (f"{task_scope}..{upcoming}:{upcoming}:", "database"),
    ):
        refusal = await refused(client.watch(task_uuid, resume_cursor=bad))
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"resume_cursor"})
        assert word in refusal.message
