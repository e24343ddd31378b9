"""A service that plays what a test wrote, and a client that talks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from tasker.client import TaskerClient
from tasker.rpc.context import ServicerContext
from tasker.rpc.server import ServiceRegistration, build_server
from tasker.v1 import common_pb2, tasks_pb2, tasks_pb2_grpc

TASK = UUID("01980000-0000-7000-8000-000000000001")
STEP = UUID("01980000-0000-7000-8000-000000000002")


@dataclass(frozen=True, slots=True)
class Act:
    """What one call does: the messages it sends, then the error it ends with, if any."""

    messages: tuple[Message, ...] = ()
    error: Exception | None = None


def sends(*messages: Message, then: Exception | None = None) -> Act:
    return Act(messages, then)


def fails(error: Exception) -> Act:
    return Act(error=error)


class ScriptedTasks(tasks_pb2_grpc.TaskServiceServicer):
    """Plays one act for each call and keeps the requests."""

    def __init__(self, acts: Iterator[Act]) -> None:
        self._acts = acts
        self.requests: list[Any] = []
        self.called = asyncio.Event()

    async def CreateTask(self, request: Any, context: ServicerContext) -> Any:
        return self._answer(request)

    async def GetTask(self, request: Any, context: ServicerContext) -> Any:
        return self._answer(request)

    async def StreamTaskStatus(self, request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        act = self._next(request)
        for message in act.messages:
            yield message
        if act.error is not None:
            raise act.error

    def _next(self, request: Any) -> Act:
        self.requests.append(request)
        self.called.set()
        return next(self._acts)

    def _answer(self, request: Any) -> Message:
        act = self._next(request)
        if act.error is not None:
            raise act.error
        return act.messages[0]


@asynccontextmanager
async def playing(
    *acts: Act, timeout_seconds: float = 30
) -> AsyncIterator[tuple[TaskerClient, ScriptedTasks]]:
    """Run the service; its last act is repeated for ever."""

    def script() -> Iterator[Act]:
        yield from acts
        while True:
            yield acts[-1]

    service = ScriptedTasks(script())
    registration = ServiceRegistration(
        tasks_pb2.DESCRIPTOR.services_by_name["TaskService"],
        service,
        tasks_pb2_grpc.add_TaskServiceServicer_to_server,
    )
    async with (
        build_server("127.0.0.1:0", services=[registration]) as server,
        TaskerClient(server.address, timeout_seconds=timeout_seconds) as client,
    ):
        yield client, service


def task_message(**fields: Any) -> tasks_pb2.Task:
    required: dict[str, Any] = {
        "task_uuid": str(TASK),
        "correlation_id": str(TASK),
        "state": common_pb2.TASK_STATE_STEPS_IN_PROCESS,
    }
    return tasks_pb2.Task(**(required | fields))


def step_message(**fields: Any) -> tasks_pb2.Step:
    required: dict[str, Any] = {
        "task_uuid": str(TASK),
        "step_uuid": str(STEP),
        "state": common_pb2.STEP_STATE_PENDING,
    }
    return tasks_pb2.Step(**(required | fields))
