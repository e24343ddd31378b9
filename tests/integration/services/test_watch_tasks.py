"""WatchService/WatchTasks: all tasks that match, as they are committed; nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode, aio

from tasker.orchestration.engine import feeds as feeds_module
from tasker.orchestration.engine import streams as stream_module
from tasker.orchestration.service import OrchestrationService
from tasker.v1 import common_pb2, tasks_pb2, watch_pb2
from tests.integration.services.updates import (
    STEP_CHANGE,
    TASK_CHANGE,
    UNSPECIFIED,
    history,
    state,
)
from tests.support import services
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, diamond, graph
from tests.support.rivals import rival
from tests.support.waiting import until, within
from tests.support.workshop import Workshop

Message = watch_pb2.WatchTasksResponse
Feed = aio.UnaryStreamCall[Any, Message]


async def take(feed: Feed) -> Message:
    """Return the next message."""
    message = await within(anext(aiter(feed)))
    assert isinstance(message, Message)
    return message


async def opened(client: Client, **fields: Any) -> Feed:
    """Return a stream that has begun."""
    feed = client.feed(**fields)
    assert (await take(feed)).update.update_type == UNSPECIFIED
    return feed


def brief(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Return which task came to which state."""
    return [(message.update.task_uuid, state(message.update)) for message in messages]


async def test_it_begins_with_a_sign_of_life_and_shows_tasks_as_they_come(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    await client.create()  # before it began
    feed = client.feed()
    begun = await take(feed)
    assert begun.update.update_type == UNSPECIFIED
    assert begun.update.timestamp.seconds > 1_600_000_000
    assert begun.cursor
    assert (begun.namespace, begun.name, begun.update.task_uuid) == ("", "", "")
    task_uuid = (await client.create()).task_uuid
    message = await take(feed)
    assert (message.namespace, message.name) == ("test", "workflow")
    assert brief([message]) == [(task_uuid, "steps_in_process")]
    assert message.update.update_type == TASK_CHANGE
    assert message.update.previous_state == common_pb2.TASK_STATE_PENDING
    await client.tasks.CancelTask(_cancel(task_uuid))
    assert brief([await take(feed)]) == [(task_uuid, "cancelled")]


def _cancel(task_uuid: str) -> tasks_pb2.CancelTaskRequest:
    return tasks_pb2.CancelTaskRequest(task_uuid=task_uuid)


async def test_filters_are_joined_by_and(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    await engine.register(chain(1) | {"name": "other"})
    await engine.register(chain(1) | {"namespace_name": "elsewhere"})
    knot = str(uuid4())
    feeds = {
        "all": await opened(client),
        "namespace": await opened(client, namespace="elsewhere"),
        "name": await opened(client, namespace="test", name="other"),
        "tags": await opened(client, tags=["a", "b"]),
        "correlation": await opened(client, correlation_id=knot),
        "nothing": await opened(client, namespace="elsewhere", correlation_id=knot),
        "states": await opened(client, states=[common_pb2.TASK_STATE_CANCELLED]),
    }
    tasks = {
        "namespace": await client.create(namespace="elsewhere"),
        "name": await client.create(name="other"),
        "tags": await client.create(tags=["b", "c", "a"]),
        "correlation": await client.create(correlation_id=knot, tags=["a"]),
        "states": await client.create(),
    }
    await client.tasks.CancelTask(_cancel(tasks["states"].task_uuid))
    for name, feed in feeds.items():
        if name not in ("all", "nothing"):
            expected = "cancelled" if name == "states" else "steps_in_process"
            assert brief([await take(feed)]) == [(tasks[name].task_uuid, expected)]
    seen = brief([await take(feeds["all"]) for _ in range(6)])
    assert seen[:5] == [(task.task_uuid, "steps_in_process") for task in tasks.values()]
    # What the other filters held back is not on its way either.
    last = (await client.create(namespace="elsewhere", correlation_id=knot, tags=["a", "b"])).task_uuid
    for name in ("namespace", "tags", "correlation", "nothing"):
        assert brief([await take(feeds[name])]) == [(last, "steps_in_process")]


async def test_steps_come_on_request_whole_and_in_order(
    database_url: str, client: Client, engine: Engine, workshop: Workshop, templates: Path
) -> None:
    """Tasks that were open before, and those that come later."""
    await engine.register(chain(3))
    before = [(await client.create()).task_uuid for _ in range(3)]
    feed = await opened(client, include_steps=True)
    async with services.worker(database_url, workshop.registry, templates):
        tasks = [
            *before,
            *[(await client.create(name="diamond" if n % 2 else "workflow")).task_uuid for n in range(20)],
        ]
        left, told = set(tasks), []
        while left:
            told.append(await take(feed))
            if state(told[-1].update) == "complete" and told[-1].update.update_type == TASK_CHANGE:
                left.remove(told[-1].update.task_uuid)
    for task_uuid in tasks:
        mine = [message.update for message in told if message.update.task_uuid == task_uuid]
        expected = await history(engine, task_uuid)
        entities: dict[str, list[str]] = {}
        for update in mine:
            name = update.step_update.name if update.update_type == STEP_CHANGE else ""
            entities.setdefault(name, []).append(state(update))
        for name, states in expected.items():
            if task_uuid in before:  # some of it lies before the beginning
                assert states[-len(entities[name]) :] == entities[name]
                assert entities[name][-1] == "complete"
            else:
                assert entities[name] == states
    instants = [message.update.timestamp.ToNanoseconds() for message in told]
    assert instants == sorted(instants)


async def test_each_cursor_continues_at_any_orchestrator(
    database_url: str, client: Client, engine: Engine
) -> None:
    await engine.register(chain(2))
    feed = await opened(client, include_steps=True)
    begun = client.feed(include_steps=True)
    cursor = (await take(begun)).cursor
    begun.cancel()
    async with services.orchestration(database_url) as second, Client(second.address) as other:
        for _ in range(3):
            await client.create()
        running = asyncio.create_task(_finish_all(engine))
        whole: list[Message] = []
        while len({m.update.task_uuid for m in whole if state(m.update) == "complete" and _is_task(m)}) < 3:
            whole.append(await take(feed))
        await running
        pieces: list[Message] = []
        turn = 0
        while len(pieces) < len(whole):
            # Leaves at every message that carries a cursor, and comes back with it elsewhere.
            turn += 1
            piece = (client, other)[turn % 2].feed(include_steps=True, resume_cursor=cursor)
            while True:
                message = await take(piece)
                if message.update.update_type != UNSPECIFIED:
                    pieces.append(message)
                if message.cursor:
                    cursor = message.cursor
                    piece.cancel()
                    break
    assert sorted(map(_fact, pieces)) == sorted(map(_fact, whole))


def _fact(message: Message) -> tuple[str, str, str]:
    return message.update.task_uuid, message.update.step_update.name, state(message.update)


def _is_task(message: Message) -> bool:
    return bool(message.update.update_type == TASK_CHANGE)


async def _finish_all(engine: Engine) -> None:
    while steps := await engine.claim():
        await engine.succeed(*steps)
        await engine.process()


async def test_what_was_missed_is_read_in_pieces(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it was, no more than a piece is read at once, and a transaction never in two."""
    monkeypatch.setattr(feeds_module, "_MOST_MOVED", 3)
    monkeypatch.setattr(stream_module, "_MANY", 4)
    template = await engine.register(chain(1))
    begun = client.feed()
    cursor = (await take(begun)).cursor
    begun.cancel()
    tasks = [str((await engine.request(template)).task.task_uuid) for _ in range(20)]
    steps = await engine.claim()
    await engine.succeed(*steps[:8])
    await engine.process()
    feed = client.feed(resume_cursor=cursor)
    told = [await take(feed) for _ in range(28)]
    assert brief(told[:20]) == [(task_uuid, "steps_in_process") for task_uuid in tasks]
    assert {state for _, state in brief(told[20:])} == {"complete"}
    assert len({task_uuid for task_uuid, _ in brief(told[20:])}) == 8
    assert sum(bool(message.cursor) for message in told) >= 7
    # And it is up to date.
    later = (await client.create()).task_uuid
    assert brief([await take(feed)]) == [(later, "steps_in_process")]


async def test_a_transaction_that_lasts_holds_nothing_up_and_is_not_forgotten(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    slow = (await client.create()).task_uuid
    feed = await opened(client)
    async with rival(engine) as other:
        await other.sql("SELECT tasker.cancel_task_v1(%s, '{}')", UUID(slow))
        tasks = [(await client.create()).task_uuid for _ in range(3)]
        told = [await take(feed) for _ in range(3)]
        assert brief(told) == [(task_uuid, "steps_in_process") for task_uuid in tasks]
        await other.commit()
    late = await take(feed)
    assert brief([late]) == [(slow, "cancelled")]
    again = client.feed(resume_cursor=told[-1].cursor)
    assert brief([await take(again)]) == [(slow, "cancelled")]
    instants = [message.update.timestamp.ToNanoseconds() for message in (*told, late)]
    assert instants == sorted(instants)


async def test_a_task_that_was_deleted_is_passed_over(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    begun = client.feed()
    cursor = (await take(begun)).cursor
    begun.cancel()
    gone = (await client.create()).task_uuid
    stays = (await client.create()).task_uuid
    await engine.sql("DELETE FROM tasker.tasks WHERE task_uuid = %s", UUID(gone))
    feed = client.feed(resume_cursor=cursor)
    assert brief([await take(feed)]) == [(stays, "steps_in_process")]


async def test_a_silent_feed_gives_signs_of_life(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    feed = await opened(client, heartbeat_seconds=1, states=[common_pb2.TASK_STATE_ERROR])
    await client.create()  # is not shown
    sign = await take(feed)
    assert sign.update.update_type == UNSPECIFIED
    again = client.feed(resume_cursor=sign.cursor, states=[common_pb2.TASK_STATE_ERROR], heartbeat_seconds=1)
    assert (await take(again)).update.update_type == UNSPECIFIED


async def test_too_many_tasks_cannot_be_watched_with_steps(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "MOST_TASKS_WITH_STEPS", 2)
    await engine.register(chain(1))
    await client.create()
    feed = await opened(client, include_steps=True)
    await client.create()
    for _ in range(2):
        await take(feed)
    await client.create()  # one too many while it is open
    refusal = await refused(_drained(feed))
    assert (refusal.code, refusal.reason) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHED_TASKS")
    refusal = await refused(_drained(client.feed(include_steps=True)))
    assert refusal.facts == {"limit": "2"}
    await opened(client, include_steps=True, name="other")
    await opened(client)


async def _drained(feed: Feed) -> list[Message]:
    return [message async for message in feed]


async def test_steps_of_tasks_that_are_over_are_not_looked_at(
    orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    feed = await opened(client, include_steps=True)
    for _ in range(3):
        await client.create()
    await _finish_all(engine)
    complete = 0
    while complete < 3:
        complete += _is_task(message := await take(feed)) and state(message.update) == "complete"
    (served,) = orchestration._orchestrator.watching._feeds.feeds
    assert served.tasks == {}


async def test_a_blocked_task_that_goes_on_is_shown_with_its_steps(client: Client, engine: Engine) -> None:
    await engine.register(graph({"a": []}))
    task_uuid = (await client.create()).task_uuid
    (step,) = await engine.claim()
    await engine.fail(step, retryable=False)
    await engine.process()
    feed = await opened(client, include_steps=True)
    await engine.operators.resolve_manually(
        UUID(task_uuid), step.step_uuid, performed_by="sam", reason="enough"
    )
    told = [await take(feed) for _ in range(2)]
    assert [(message.update.step_update.name, state(message.update)) for message in told] == [
        ("a", "resolved_manually"),
        ("", "complete"),
    ]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"heartbeat_seconds": 0}, "heartbeat_seconds"),
        ({"correlation_id": "x"}, "correlation_id"),
        ({"states": [0]}, "states[0]"),
        ({"states": [99]}, "states[0]"),
        ({"tags": ["a", ""]}, "tags[1]"),
        ({"namespace": "a\0"}, "namespace"),
        ({"name": "n" * 256}, "name"),
        ({"resume_cursor": "x"}, "resume_cursor"),
    ],
)
async def test_a_mistake_is_named(client: Client, fields: dict[str, Any], wrong: str) -> None:
    refusal = await refused(_drained(client.feed(**fields)))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {wrong})


async def test_a_cursor_belongs_to_its_filters(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    of_task = client.stream((await client.create()).task_uuid)
    of_others = client.feed(namespace="other")
    scope = (await take(client.feed())).cursor.partition(".")[0]
    for cursor in (
        (await within(anext(aiter(of_task)))).cursor,
        (await take(of_others)).cursor,
        f"{scope}..999999999999999:999999999999999:",
    ):
        refusal = await refused(_drained(client.feed(resume_cursor=cursor)))
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"resume_cursor"})


async def test_a_client_that_leaves_frees_its_feed(
    orchestration: OrchestrationService, client: Client
) -> None:
    feed = await opened(client)
    assert orchestration._streams.count == 1
    feed.cancel()
    await until(lambda: orchestration._streams.count == 0)
    assert not orchestration._orchestrator.watching._feeds.feeds


async def test_a_service_that_stops_sends_its_watchers_elsewhere(database_url: str, engine: Engine) -> None:
    await engine.register(diamond() | {"name": "workflow"})
    service = services.orchestration(database_url)
    orchestration = await service.__aenter__()
    async with Client(orchestration.address) as client:
        feed = client.feed()
        cursor = (await take(feed)).cursor
        rest = asyncio.create_task(refused(_drained(feed)))
        await service.__aexit__(None, None, None)
        assert (await within(rest)).code is StatusCode.UNAVAILABLE
    async with services.orchestration(database_url) as another, Client(another.address) as client:
        task_uuid = (await client.create()).task_uuid
        assert brief([await take(client.feed(resume_cursor=cursor))]) == [(task_uuid, "steps_in_process")]
