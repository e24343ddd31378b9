"""TaskService/StreamTaskStatus: the current state, every committed transition in order, the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode, aio

from tasker.orchestration.service import OrchestrationService
from tasker.v1 import common_pb2
from tests.integration.services.updates import (
    COMPLETE,
    ERROR,
    STEP_CHANGE,
    TASK_CHANGE,
    read,
    shown,
    state,
)
from tests.support import outages, services
from tests.support.clients import Client, Update, refused
from tests.support.engine import Engine, chain, diamond, graph
from tests.support.waiting import until, within
from tests.support.workshop import Gate, Workshop

# What it brings


async def test_first_the_current_state_then_each_transition(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid, include_steps=True)
    first = await read(stream)
    assert (first.update_type, state(first)) == (TASK_CHANGE, "steps_in_process")
    assert first.timestamp.seconds > 1_600_000_000
    (claimed,) = await engine.claim()
    assert shown([await read(stream)]) == [("s1", "in_progress", 1)]
    await engine.succeed(claimed)
    rest = [update async for update in stream]
    assert shown(rest) == [
        ("s1", "enqueued_for_orchestration", 1),
        ("s1", "complete", 1),
        ("complete",),
        ("complete",),
    ]
    assert [update.update_type for update in rest] == [STEP_CHANGE, STEP_CHANGE, TASK_CHANGE, COMPLETE]
    assert (rest[2].task_uuid, rest[2].previous_state) == (task_uuid, common_pb2.TASK_STATE_STEPS_IN_PROCESS)
    assert UUID(rest[0].step_update.step_uuid) == claimed.step_uuid


async def test_steps_come_on_request_only(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid)
    await read(stream)
    await engine.succeed(*await engine.claim())
    assert [update.update_type async for update in stream] == [TASK_CHANGE, COMPLETE]


async def test_it_ends_with_the_errors_of_a_blocked_task(client: Client, engine: Engine) -> None:
    await engine.register(graph({"a": [], "b": []}))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid)
    await read(stream)
    one, other = await engine.claim()
    await engine.fail(one, retryable=False)
    await engine.succeed(other)
    rest = [update async for update in stream]
    assert shown(rest) == [("blocked_by_failures",), ("blocked_by_failures",)]
    assert rest[-1].update_type == ERROR
    assert "it broke" in rest[-1].error_message
    assert one.name in rest[-1].error_message
    assert other.name not in rest[-1].error_message.replace("it broke", "")
    assert not rest[0].HasField("error_message")


async def test_a_settled_task_is_told_at_once(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid)
    await engine.succeed(*await engine.claim())
    async for _ in stream:
        pass
    late = await within(client.watch(task_uuid, include_steps=True))
    assert [update.update_type for update in late] == [TASK_CHANGE, COMPLETE]
    assert {state(update) for update in late} == {"complete"}


@pytest.mark.parametrize(
    ("terminal", "ending"), [("cancelled", ERROR), ("error", ERROR), ("resolved_manually", COMPLETE)]
)
async def test_it_ends_on_every_terminal_state(
    client: Client, engine: Engine, terminal: str, ending: int
) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid)
    await read(stream)
    # No rpc leads there yet: move the task by hand, as the machine allows, without a hint.
    await engine.sql(
        "WITH moved AS (UPDATE tasker.tasks SET state = %s, terminal_at = tasker.now(), "
        "sort_key = sort_key + 1 WHERE task_uuid = %s RETURNING task_uuid, sort_key, state) "
        "INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, created_at) "
        "SELECT task_uuid, sort_key, 'steps_in_process', state, tasker.now() FROM moved RETURNING 1",
        terminal,
        UUID(task_uuid),
    )
    rest = [update async for update in stream]
    assert [(update.update_type, state(update)) for update in rest] == [
        (TASK_CHANGE, terminal),
        (ending, terminal),
    ]
    assert bool(rest[-1].error_message) == (ending == ERROR)


async def test_a_task_that_waits_is_not_over(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid)
    await read(stream)
    await engine.fail(*await engine.claim())
    assert state(await read(stream)) == "waiting_for_retry"
    await engine.move_clock(60)
    assert state(await read(stream)) == "steps_in_process"
    await engine.succeed(*await engine.claim())
    assert [state(update) async for update in stream] == ["complete", "complete"]


# Ends and errors


async def test_an_unknown_task_is_not_found(client: Client) -> None:
    refusal = await refused(client.watch(str(uuid4())))
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    refusal = await refused(client.watch("nonsense"))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"task_uuid"})


async def test_a_client_that_leaves_frees_its_stream(
    orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stays = client.stream(task_uuid)
    leaves = [client.stream(task_uuid, include_steps=True) for _ in range(5)]
    for stream in (stays, *leaves):
        await read(stream)
    assert open_streams(orchestration) == 6
    for stream in leaves:
        stream.cancel()
    await until(lambda: open_streams(orchestration) == 1)
    await engine.succeed(*await engine.claim())
    assert [update.update_type async for update in stays] == [TASK_CHANGE, COMPLETE]
    await until(lambda: open_streams(orchestration) == 0)


async def test_a_client_whose_connection_breaks_frees_its_stream(
    orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    async with Client(orchestration.address) as other:
        await read(other.stream(task_uuid))
        assert open_streams(orchestration) == 1
    await until(lambda: open_streams(orchestration) == 0)


def open_streams(service: OrchestrationService) -> int:
    return service._streams.count


async def test_many_streams_of_one_task_bring_the_same(
    database_url: str, client: Client, workshop: Workshop, templates: Path
) -> None:
    gate = workshop.behaviours["s1"] = Gate()
    async with services.worker(database_url, workshop.registry, templates):
        task_uuid = (await client.create()).task_uuid
        await within(gate.entered.wait())
        streams = [client.stream(task_uuid, include_steps=True, resume_cursor="") for _ in range(20)]
        gate.opened.set()
        told = [shown([update async for update in stream]) for stream in streams]
    assert all(one == told[0] for one in told)
    assert told[0][-1] == ("complete",)


async def test_streams_of_different_tasks_do_not_mix(
    database_url: str, client: Client, workshop: Workshop, templates: Path
) -> None:
    async with services.worker(database_url, workshop.registry, templates):
        tasks = await asyncio.gather(*(client.create(context={"n": n}) for n in range(20)))
        streams = await asyncio.gather(*(client.watch(task.task_uuid, include_steps=True) for task in tasks))
    for task, updates in zip(tasks, streams, strict=True):
        assert {update.task_uuid for update in updates} == {task.task_uuid}


async def test_a_server_that_drains_sends_its_streams_elsewhere(database_url: str, engine: Engine) -> None:
    """An end without an ending would look like a finished task: clients must see that they can come back."""
    await engine.register(chain(1))
    service = services.orchestration(database_url)
    orchestration = await service.__aenter__()
    async with Client(orchestration.address) as client:
        task_uuid = (await client.create()).task_uuid
        stream = client.stream(task_uuid)
        cursor = (await read(stream)).cursor
        rest = asyncio.create_task(refused(_drained(stream)))
        await service.__aexit__(None, None, None)
        assert (await within(rest)).code is StatusCode.UNAVAILABLE
    async with services.orchestration(database_url) as another, Client(another.address) as client:
        await engine.succeed(*await engine.claim())
        assert [u.update_type for u in await client.watch(task_uuid, resume_cursor=cursor)] == [
            TASK_CHANGE,
            COMPLETE,
        ]


async def _drained(stream: aio.UnaryStreamCall[Any, Update]) -> list[Update]:
    return [update async for update in stream]


@pytest.mark.own_database
async def test_a_stream_that_loses_the_database_may_be_repeated(
    database_url: str, orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    orchestration._orchestrator.database._pool.timeout = 0.2  # how long it waits for a connection
    await engine.register(diamond())
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid)
    await read(stream)
    async with outages.outage(database_url):
        refusal = await refused(_drained(stream))
    assert refusal.code is StatusCode.UNAVAILABLE
    assert refusal.retry_after


async def test_hints_go_on_for_as_long_as_somebody_watches(
    monkeypatch: pytest.MonkeyPatch, client: Client, engine: Engine
) -> None:
    monkeypatch.setattr("tasker.orchestration.engine.watching._WATCH_SECONDS", 0.5)
    await engine.register(chain(1))
    stream = client.stream((await client.create()).task_uuid)
    await read(stream)

    async def watched_until() -> Any:
        return (await engine.sql("SELECT max(expires_at) FROM tasker.watchers"))[0][0]

    first = await watched_until()

    async def renewed() -> bool:
        return bool(await watched_until() > first)

    await until(renewed, what="the watcher announced again")
    stream.cancel()
