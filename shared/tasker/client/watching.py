"""Watching over connections that may break: nothing is missed, and nothing comes twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final, TypeAlias
from uuid import UUID

from grpc import StatusCode, aio

from tasker.client import parsing
from tasker.client.connection import WatchStubs
from tasker.client.errors import ResourceExhaustedError, TaskerClientError, UnavailableError, client_error
from tasker.client.records import Heartbeat, StepUpdate, TaskUpdate, WatchedUpdate
from tasker.v1 import tasks_pb2, watch_pb2

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0
_SLOW_WATCHER: Final = "SLOW_WATCHER"


_Message: TypeAlias = tasks_pb2.TaskStatusUpdate | watch_pb2.WatchTasksResponse


@dataclass(frozen=True, slots=True)
class TaskWish:
    """What to watch of a task, as the client's `watch` has it."""

    task_uuid: UUID
    steps: bool = False
    step_names: Sequence[str] = ()
    from_start: bool = False
    resume_cursor: str | None = None
    heartbeat_seconds: int | None = None

    def request(self, cursor: str | None) -> tasks_pb2.StreamTaskStatusRequest:
        """Return the request that goes on behind a cursor."""
        return tasks_pb2.StreamTaskStatusRequest(
            task_uuid=str(self.task_uuid),
            include_steps=self.steps or bool(self.step_names),
            step_names=self.step_names,
            resume_cursor=cursor,
            heartbeat_seconds=self.heartbeat_seconds,
        )


async def watch(
    channel: Callable[[], AbstractContextManager[WatchStubs]], wish: TaskWish, *, patience_seconds: float
) -> AsyncGenerator[TaskUpdate | StepUpdate | Heartbeat, None]:
    """Yield a task's updates, over as many streams as it takes.

    Raises:
        TaskerClientError: The service refused.
        UnavailableError: No update came for `patience_seconds` after the connection was lost.
    """
    begin = wish.resume_cursor if wish.resume_cursor is not None else "" if wish.from_start else None
    position = _Position(begin, patience_seconds)
    present: list[StepUpdate] = []
    while True:
        with channel() as stubs:
            call = stubs.tasks.StreamTaskStatus(wish.request(position.cursor))
            try:
                async for message in call:
                    cursor = message.cursor or None
                    if position.passes(message):
                        continue
                    update = parsing.update(message, task_uuid=wish.task_uuid, cursor=cursor)
                    if isinstance(update, TaskUpdate) and update.task is not None:
                        # Of many steps each message has some.
                        present = [*present, *update.steps]
                        if cursor is None:
                            continue
                        update = replace(update, steps=tuple(present))
                    yield update
                    if isinstance(update, TaskUpdate) and update.is_last:
                        return
                problem: TaskerClientError = UnavailableError(
                    "the service ended the stream before the task was settled", code=StatusCode.UNAVAILABLE
                )
            except aio.AioRpcError as error:
                problem = client_error(error)
            finally:
                call.cancel()
        present = []
        await position.pause_after(problem)


async def watch_tasks(
    channel: Callable[[], AbstractContextManager[WatchStubs]],
    request: watch_pb2.WatchTasksRequest,
    *,
    patience_seconds: float,
) -> AsyncGenerator[WatchedUpdate, None]:
    """Yield the updates of all tasks that match, over as many streams as it takes; otherwise like `watch`."""
    cursor = request.resume_cursor if request.HasField("resume_cursor") else None
    position = _Position(cursor, patience_seconds)
    while True:
        if position.cursor is not None:
            request.resume_cursor = position.cursor
        with channel() as stubs:
            call = stubs.watch.WatchTasks(request)
            try:
                async for message in call:
                    cursor = message.cursor or None
                    if not position.passes(message):
                        yield parsing.watched_update(message, cursor=cursor)
                problem: TaskerClientError = UnavailableError(
                    "the service ended the stream", code=StatusCode.UNAVAILABLE
                )
            except aio.AioRpcError as error:
                problem = client_error(error)
            finally:
                call.cancel()
        await position.pause_after(problem)


class _Position:
    """How far a watcher has come.

    The service puts a cursor on the last update of each group it reads at once. A stream that breaks off
    inside a group is taken up behind the cursor before, and brings updates that are known.
    """

    def __init__(self, cursor: str | None, patience_seconds: float) -> None:
        self.cursor = cursor
        self._patience_seconds = patience_seconds
        self._known: set[bytes] = set()
        self._lost_at: float | None = None
        self._pauses = _pauses()

    def passes(self, message: _Message) -> bool:
        """Move on to an update; tell whether it is known already."""
        self._lost_at, self._pauses = None, _pauses()
        cursor = message.cursor or None
        message.ClearField("cursor")
        update = message.SerializeToString(deterministic=True)
        known = update in self._known
        if cursor is None:
            # How the task stands comes anew, and whole, in the next stream.
            if not (isinstance(message, tasks_pb2.TaskStatusUpdate) and message.HasField("task")):
                self._known.add(update)
        else:
            self.cursor = cursor
            self._known.clear()
        return known

    async def pause_after(self, problem: TaskerClientError) -> None:
        """Wait before the next stream.

        Raises:
            TaskerClientError: The problem, if another stream would not help, or patience has come to an end.
        """
        if isinstance(problem, ResourceExhaustedError) and problem.reason == _SLOW_WATCHER:
            return  # whoever takes the updates was too slow, and is back
        if not isinstance(problem, UnavailableError):
            raise problem from None
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        if now - self._lost_at > self._patience_seconds:
            raise problem
        pause = next(self._pauses)
        await asyncio.sleep(max(problem.retry_after_seconds or 0, random.uniform(pause / 2, pause)))  # noqa: S311


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
