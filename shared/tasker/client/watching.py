"""Watching a task over connections that may break."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from typing import Final
from uuid import UUID

from grpc import StatusCode, aio

from tasker.client import parsing
from tasker.client.errors import UnavailableError, client_error
from tasker.client.records import StepUpdate, TaskUpdate
from tasker.v1 import tasks_pb2, tasks_pb2_grpc

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0


async def watch(
    stub: tasks_pb2_grpc.TaskServiceAsyncStub,
    task_uuid: UUID,
    *,
    steps: bool,
    from_start: bool,
    patience_seconds: float,
) -> AsyncGenerator[TaskUpdate | StepUpdate, None]:
    """Yield a task's updates, over as many streams as it takes.

    Raises:
        TaskerClientError: The service refused.
        UnavailableError: No update came for `patience_seconds` after the connection was lost.
    """
    position = _Position("" if from_start else None)
    lost_at: float | None = None
    pause = _FIRST_PAUSE_SECONDS
    while True:
        call = stub.StreamTaskStatus(
            tasks_pb2.StreamTaskStatusRequest(
                task_uuid=str(task_uuid), include_steps=steps, resume_cursor=position.cursor
            )
        )
        try:
            async for message in call:
                lost_at, pause = None, _FIRST_PAUSE_SECONDS
                if position.passes(message):
                    continue
                update = parsing.update(message, task_uuid=task_uuid)
                yield update
                if isinstance(update, TaskUpdate) and update.is_last:
                    return
            problem = UnavailableError(
                "the service ended the stream before the task was settled", code=StatusCode.UNAVAILABLE
            )
        except aio.AioRpcError as error:
            refusal = client_error(error)
            if not isinstance(refusal, UnavailableError):
                raise refusal from None
            problem = refusal
        finally:
            call.cancel()
        now = time.monotonic()
        lost_at = lost_at or now
        if now - lost_at > patience_seconds:
            raise problem
        await asyncio.sleep(max(problem.retry_after_seconds or 0, random.uniform(pause / 2, pause)))  # noqa: S311
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


class _Position:
    """How far a watcher has come.

    The service puts a cursor on the last update of each group it reads at once. A stream that breaks off
    inside a group is taken up behind the cursor before, and brings updates that are known.
    """

    def __init__(self, cursor: str | None) -> None:
        self.cursor = cursor
        self._known: set[bytes] = set()

    def passes(self, message: tasks_pb2.TaskStatusUpdate) -> bool:
        """Move on to an update; tell whether it is known already."""
        cursor = message.cursor if message.HasField("cursor") else None
        message.ClearField("cursor")
        update = message.SerializeToString(deterministic=True)
        known = update in self._known
        if cursor is None:
            self._known.add(update)
        else:
            self.cursor = cursor
            self._known.clear()
        return known
