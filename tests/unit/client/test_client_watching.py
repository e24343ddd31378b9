"""Watching a task over streams that break: nothing is missed, nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tasker.client import (
    Heartbeat,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StepUpdate,
    TaskerClient,
    TaskState,
    TaskUpdate,
    UnavailableError,
)
from tasker.domain import errors
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.server import ServiceRegistration, build_server
from tasker.v1 import common_pb2, tasks_pb2, tasks_pb2_grpc, watch_pb2
from tests.unit.client.scripted import STEP, TASK, Act, fails, playing, sends, task_message

GONE = errors.UnavailableError("gone", retry_after_seconds=0)

Message = tasks_pb2.TaskStatusUpdate


def moved(name: str, *, cursor: str | None = None, seconds: int = 0) -> Message:
    message = Message(
        update_type=Message.UPDATE_TYPE_STEP_STATE_CHANGE,
        step_update=tasks_pb2.StepUpdate(
            step_uuid=str(STEP), name=name, state=common_pb2.STEP_STATE_ENQUEUED
        ),
        cursor=cursor,
    )
    message.timestamp.FromSeconds(seconds)
    return message


def last(state: TaskState = TaskState.COMPLETE) -> Message:
    return Message(
        update_type=Message.UPDATE_TYPE_TASK_COMPLETE,
        task_state=common_pb2.TaskState.Value(f"TASK_STATE_{state.name}"),
        cursor="end",
    )


async def seen(*acts: Act, timeout_seconds: float = 30, **options: Any) -> tuple[list[str], list[str | None]]:
    """Return what a watcher sees of streams (names of steps, states of the task) and the cursors it asks with."""
    async with playing(*acts, timeout_seconds=timeout_seconds) as (client, service):
        updates = [update async for update in client.watch(TASK, steps=True, **options)]
    cursors = [
        request.resume_cursor if request.HasField("resume_cursor") else None for request in service.requests
    ]
    return [update.name if isinstance(update, StepUpdate) else update.state for update in updates], cursors


async def test_an_unbroken_stream() -> None:
    assert await seen(sends(moved("a"), moved("b", cursor="1"), last())) == (["a", "b", "complete"], [None])


async def test_from_the_start_means_an_empty_cursor() -> None:
    assert await seen(sends(last()), from_start=True) == (["complete"], [""])


async def test_a_broken_stream_is_taken_up_behind_its_cursor() -> None:
    updates, cursors = await seen(
        sends(moved("a", cursor="1"), moved("b", cursor="2"), then=GONE),
        fails(GONE),
        sends(moved("c", cursor="3"), last()),
    )
    assert updates == ["a", "b", "c", "complete"]
    assert cursors == [None, "2", "2"]


async def test_updates_behind_the_last_cursor_do_not_come_twice() -> None:
    updates, cursors = await seen(
        sends(moved("a", cursor="1"), moved("b"), moved("c"), then=GONE),
        sends(moved("b"), moved("c"), moved("d", cursor="2"), then=GONE),
        sends(moved("b", seconds=5, cursor="3"), last()),
    )
    assert updates == ["a", "b", "c", "d", "b", "complete"]
    assert cursors == [None, "1", "2"]


async def test_a_known_update_may_carry_the_cursor_the_second_time() -> None:
    updates, cursors = await seen(
        sends(moved("a"), moved("b"), then=GONE),
        sends(moved("a"), moved("b", cursor="1"), then=GONE),
        sends(moved("c", cursor="2"), last()),
    )
    assert updates == ["a", "b", "c", "complete"]
    assert cursors == [None, None, "1"]


async def test_a_stream_that_ends_too_early_is_taken_up_too() -> None:
    """A service that drains ends its streams in good order."""
    assert await seen(sends(moved("a", cursor="1")), sends(last())) == (["a", "complete"], [None, "1"])


async def test_a_cursor_from_elsewhere_begins_it() -> None:
    assert await seen(sends(last()), resume_cursor="7") == (["complete"], ["7"])


async def test_whoever_was_too_slow_goes_on_at_once() -> None:
    slow = errors.SlowWatcherError("1", seconds=30)
    updates, cursors = await seen(
        sends(moved("a", cursor="1"), moved("b"), then=slow), sends(moved("b"), last()), timeout_seconds=0
    )
    assert updates == ["a", "b", "complete"]
    assert cursors == [None, "1"]


async def test_a_service_that_is_full_is_no_reason_to_wait() -> None:
    async with playing(fails(errors.TooManyStreamsError("full", limit=3))) as (client, service):
        with pytest.raises(ResourceExhaustedError, match="full") as caught:
            await anext(client.watch(TASK))
    assert (caught.value.reason, dict(caught.value.metadata)) == ("TOO_MANY_STREAMS", {"limit": "3"})
    assert len(service.requests) == 1


async def test_the_options_are_asked_for() -> None:
    async with playing(sends(last())) as (client, service):
        async for _ in client.watch(TASK, step_names=["a", "b"], heartbeat_seconds=5):
            pass
    (request,) = service.requests
    assert (request.include_steps, list(request.step_names)) == (True, ["a", "b"])
    assert request.heartbeat_seconds == 5


async def test_a_sign_of_life_is_no_news() -> None:
    sign = Message(cursor="4")
    sign.timestamp.FromSeconds(60)
    async with playing(sends(sign, last())) as (client, _):
        told = [update async for update in client.watch(TASK, heartbeat_seconds=1)]
    assert told[0] == Heartbeat(at=datetime(1970, 1, 1, 0, 1, tzinfo=UTC), cursor="4")
    assert isinstance(told[1], TaskUpdate)
    assert told[1].cursor == "end"


def part(*names: str, cursor: str | None = None) -> Message:
    return Message(
        update_type=Message.UPDATE_TYPE_TASK_STATE_CHANGE,
        task_state=common_pb2.TASK_STATE_STEPS_IN_PROCESS,
        task=task_message(),
        steps=[
            tasks_pb2.StepUpdate(step_uuid=str(STEP), name=name, state=common_pb2.STEP_STATE_PENDING)
            for name in names
        ],
        cursor=cursor,
    )


async def test_the_present_comes_in_one_update_though_it_was_sent_in_parts() -> None:
    """Also when the stream broke off in the middle of it."""
    async with playing(
        sends(part("a"), then=GONE), sends(part("a"), part("b"), part("c", cursor="1"), last())
    ) as (client, service):
        first, end = [update async for update in client.watch(TASK, steps=True)]
    assert isinstance(first, TaskUpdate)
    assert first.task is not None
    assert first.task.task_uuid == TASK
    assert [step.name for step in first.steps] == ["a", "b", "c"]
    assert first.cursor == "1"
    assert isinstance(end, TaskUpdate)
    assert end.is_last
    assert [request.HasField("resume_cursor") for request in service.requests] == [False, False]


# Many tasks


def news(name: str, *, cursor: str = "") -> watch_pb2.WatchTasksResponse:
    update = moved(name)
    update.task_uuid = str(TASK)
    return watch_pb2.WatchTasksResponse(update=update, namespace="shop", name="checkout", cursor=cursor)


async def test_many_tasks_are_watched_over_broken_streams() -> None:
    sign = watch_pb2.WatchTasksResponse(update=Message(), cursor="0")
    async with playing(
        sends(sign, news("a", cursor="1"), news("b"), then=GONE),
        sends(news("b"), news("c", cursor="2")),  # the service drains
        fails(errors.SlowWatcherError("2", seconds=30)),
        sends(news("d", cursor="3"), then=errors.InvalidArgumentError.of("resume_cursor", "is none")),
    ) as (client, service):
        updates = client.watch_tasks(
            namespace="shop", tags=["x"], states=[TaskState.ERROR], steps=True, heartbeat_seconds=9
        )
        told = [await anext(updates) for _ in range(5)]
        with pytest.raises(InvalidArgumentError):
            await anext(updates)
    assert [update.update and getattr(update.update, "name", "") for update in told] == [
        None, "a", "b", "c", "d",
    ]  # fmt: skip
    assert [(update.namespace, update.name) for update in told[1:]] == [("shop", "checkout")] * 4
    assert [update.cursor for update in told] == ["0", "1", None, "2", "3"]
    assert [request.resume_cursor for request in service.requests] == ["", "1", "2", "2"]
    request = service.requests[0]
    assert (request.namespace, list(request.tags), request.include_steps) == ("shop", ["x"], True)
    assert list(request.states) == [common_pb2.TASK_STATE_ERROR]


# Channels


async def test_streams_have_connections_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.client.connection._MOST_STREAMS", 2)
    peers: list[str] = []

    async def stream(request: Any, context: ServicerContext) -> AsyncIterator[Message]:
        peers.append(context.peer())
        yield moved("a", cursor="1")
        await asyncio.Event().wait()

    async def answer(request: Any, context: ServicerContext) -> tasks_pb2.GetTaskResponse:
        peers.append(context.peer())
        return tasks_pb2.GetTaskResponse(task=task_message())

    servicer = SimpleNamespace(StreamTaskStatus=stream, GetTask=answer)
    for name in ("CreateTask", "ListTasks", "CancelTask", "GetTaskContext", "GetTaskSummary"):
        setattr(servicer, name, answer)
    registration: ServiceRegistration[Any] = ServiceRegistration(
        tasks_pb2.DESCRIPTOR.services_by_name["TaskService"],
        servicer,
        tasks_pb2_grpc.add_TaskServiceServicer_to_server,
    )
    async with (
        build_server("127.0.0.1:0", services=[registration]) as server,
        TaskerClient(server.address) as client,
    ):
        watches = [client.watch(TASK, steps=True) for _ in range(4)]
        for watch in watches:
            await anext(watch)
        await client.get(TASK)
        assert [peers.count(peer) for peer in dict.fromkeys(peers)] == [2, 2, 1]
        await watches[0].aclose()  # makes room on the first one
        await anext(watch := client.watch(TASK, steps=True))
        assert peers[-1] == peers[0]
        for open_watch in (*watches, watch):
            await open_watch.aclose()


async def test_a_refusal_ends_it() -> None:
    async with playing(fails(errors.TaskNotFoundError(TASK))) as (client, service):
        with pytest.raises(NotFoundError):
            await anext(client.watch(TASK))
    assert len(service.requests) == 1


async def test_patience_ends_too() -> None:
    async with playing(fails(GONE), timeout_seconds=0.2) as (client, service):
        with pytest.raises(UnavailableError, match="gone"):
            await anext(client.watch(TASK))
    assert len(service.requests) > 1


async def test_a_watcher_may_leave() -> None:
    async with playing(sends(moved("a", cursor="1"), moved("b", cursor="2"), last())) as (client, _):
        updates = client.watch(TASK, steps=True)
        await anext(updates)
        await updates.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(updates)


async def test_waiting_returns_the_settled_task_with_its_steps() -> None:
    settled = task_message(state=common_pb2.TASK_STATE_BLOCKED_BY_FAILURES)
    async with playing(
        sends(last(TaskState.BLOCKED_BY_FAILURES)), sends(tasks_pb2.GetTaskResponse(task=settled))
    ) as (client, service):
        task = await client.wait(TASK)
    assert task.state is TaskState.BLOCKED_BY_FAILURES
    stream, get = service.requests
    assert not stream.include_steps
    assert get.include_steps


async def test_waiting_goes_on_if_the_task_was_resumed_meanwhile() -> None:
    async with playing(
        sends(last(TaskState.BLOCKED_BY_FAILURES)),
        sends(tasks_pb2.GetTaskResponse(task=task_message())),
        sends(last()),
        sends(tasks_pb2.GetTaskResponse(task=task_message(state=common_pb2.TASK_STATE_COMPLETE))),
    ) as (client, service):
        task = await client.wait(TASK)
    assert task.state is TaskState.COMPLETE
    assert len(service.requests) == 4


async def test_waiting_has_a_limit() -> None:
    async with playing(fails(GONE)) as (client, _):
        with pytest.raises(TimeoutError, match=rf"task {TASK} was not settled within 0\.05 s"):
            await client.wait(TASK, timeout=0.05)


async def test_a_cancelled_wait_is_cancelled() -> None:
    async with playing(fails(GONE)) as (client, service):
        waiting = asyncio.create_task(client.wait(uuid4(), timeout=60))
        await service.called.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
