"""Watching a task over streams that break: nothing is missed, nothing comes twice."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tasker.client import NotFoundError, StepUpdate, TaskState, UnavailableError
from tasker.domain import errors
from tasker.v1 import common_pb2, tasks_pb2
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


async def seen(*acts: Act, **options: Any) -> tuple[list[str], list[str | None]]:
    """Return what a watcher sees of streams (names of steps, states of the task) and the cursors it asks with."""
    async with playing(*acts) as (client, service):
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
