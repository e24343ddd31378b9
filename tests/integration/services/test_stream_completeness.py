"""TaskService/StreamTaskStatus: nothing is lost and nothing comes twice, resumed or not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest
from grpc import StatusCode

from tests.integration.services.updates import (
    COMPLETE,
    TASK_CHANGE,
    by_entity,
    history,
    read,
    shown,
)
from tests.support import services
from tests.support.clients import Client, Update, refused
from tests.support.engine import Engine, chain, diamond
from tests.support.waiting import within
from tests.support.workshop import Workshop


async def test_many_fast_tasks_lose_nothing(
    database_url: str, client: Client, engine: Engine, workshop: Workshop, templates: Path
) -> None:
    async with services.worker(database_url, workshop.registry, templates):
        tasks = await asyncio.gather(
            *(client.create(name="diamond" if n % 2 else "workflow") for n in range(40))
        )
        streams = await asyncio.gather(
            *(client.watch(task.task_uuid, include_steps=True, resume_cursor="") for task in tasks)
        )
    for task, updates in zip(tasks, streams, strict=True):
        assert updates[-1].update_type == COMPLETE
        assert by_entity(updates) == await history(engine, task.task_uuid)
        instants = [update.timestamp.ToNanoseconds() for update in updates]
        assert instants == sorted(instants)


async def test_what_follows_the_first_message_is_complete_too(
    database_url: str, client: Client, engine: Engine, workshop: Workshop, templates: Path
) -> None:
    """The stream opens somewhere in the middle: from there on each entity's history has no gap."""
    async with services.worker(database_url, workshop.registry, templates):
        tasks = await asyncio.gather(*(client.create(name="diamond") for _ in range(20)))
        streams = await asyncio.gather(*(client.watch(task.task_uuid, include_steps=True) for task in tasks))
    for task, updates in zip(tasks, streams, strict=True):
        told, true = by_entity(updates[1:]), await history(engine, task.task_uuid)
        for name, states in told.items():
            assert true[name][-len(states) :] == states


@pytest.mark.parametrize("steps", [True, False])
async def test_each_cursor_continues_without_gap_or_repetition(
    client: Client, engine: Engine, steps: bool
) -> None:
    await engine.register(diamond() | {"name": "diamond"})
    task_uuid = (await client.create(name="diamond")).task_uuid
    # One transaction after the other: of two at once, whose instants may lie otherwise than their commits, the pieces
    # would have one order and the whole the other.
    running = asyncio.create_task(engine.run(UUID(task_uuid)))
    pieces: list[Update] = []
    cursor = ""
    while not (pieces and pieces[-1].update_type == COMPLETE):
        # Leaves at every message that carries a cursor, and comes back with it.
        stream = client.stream(task_uuid, include_steps=steps, resume_cursor=cursor)
        async for update in stream:
            pieces.append(update)
            if update.cursor:
                cursor = update.cursor
                stream.cancel()
                break
    await running
    whole = await client.watch(task_uuid, include_steps=steps, resume_cursor="")
    assert shown(pieces) == shown(whole)
    assert by_entity(whole)[""] == ["steps_in_process", "complete"]


async def test_the_cursor_of_the_first_message_continues(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid, include_steps=True)
    cursor = (await read(stream)).cursor
    stream.cancel()
    await engine.succeed(*await engine.claim())
    resumed = await client.watch(task_uuid, include_steps=True, resume_cursor=cursor)
    assert shown(resumed) == [
        ("s1", "in_progress", 1),
        ("s1", "enqueued_for_orchestration", 1),
        ("s1", "complete", 1),
        ("complete",),
        ("complete",),
    ]


async def test_the_cursor_of_the_end_repeats_only_the_end(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    await engine.succeed(*await engine.claim())
    last = (await client.watch(task_uuid))[-1]
    again = await within(client.watch(task_uuid, resume_cursor=last.cursor))
    assert [update.update_type for update in again] == [COMPLETE]


async def test_another_orchestrator_continues_a_cursor(
    database_url: str, client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid)
    cursor = (await read(stream)).cursor
    stream.cancel()
    async with services.orchestration(database_url) as second, Client(second.address) as other:
        await engine.succeed(*await engine.claim())
        resumed = await other.watch(task_uuid, resume_cursor=cursor)
    assert [update.update_type for update in resumed] == [TASK_CHANGE, COMPLETE]


async def test_a_clock_that_was_set_back_does_not_turn_a_history_around(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    steps = await engine.claim()
    await engine.move_clock(-10)
    await engine.succeed(*steps)
    await engine.sql("UPDATE pgmq.q_orchestration_step_results SET vt = vt - interval '1 h' RETURNING msg_id")
    whole = await within(client.watch(task_uuid, include_steps=True, resume_cursor=""))
    assert by_entity(whole) == {
        "": ["steps_in_process", "complete"],
        "s1": ["enqueued", "in_progress", "enqueued_for_orchestration", "complete"],
    }
    assert (await within(client.watch(task_uuid)))[-1].update_type == COMPLETE


async def test_a_bad_cursor_is_an_invalid_argument(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    for bad in (
        "x",
        "1:2",
        "1:2:3;",
        "-1:2:",
        "9" * 20 + ":1:",
        "5:1:",
        "1:3:9",
        "1:9:3,2",
        "1:9:3,",
        "0:1:",
        "²:3:",
    ):
        refusal = await refused(client.watch(task_uuid, resume_cursor=bad))
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"resume_cursor"}), bad
