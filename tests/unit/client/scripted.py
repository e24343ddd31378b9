"""A service that plays what a test wrote, and a client that talks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from tasker.client import TaskerClient
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.server import ServiceRegistration, build_server
from tasker.v1 import (
    batch_pb2,
    batch_pb2_grpc,
    common_pb2,
    dlq_pb2,
    dlq_pb2_grpc,
    health_pb2,
    health_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    steps_pb2,
    steps_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
    template_admin_pb2,
    template_admin_pb2_grpc,
    templates_pb2,
    templates_pb2_grpc,
    watch_pb2,
    watch_pb2_grpc,
)

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


class Script:
    """Plays one act for each call, whatever is called, and keeps the requests; the last act is repeated for ever."""

    def __init__(self, acts: Sequence[Act]) -> None:
        self._acts = chain(acts, repeat(acts[-1]))
        self.requests: list[Any] = []
        self.called = asyncio.Event()

    def next(self, request: Message) -> Act:
        self.requests.append(request)
        self.called.set()
        return next(self._acts)

    async def answer(self, request: Any, context: ServicerContext) -> Any:
        act = self.next(request)
        if act.error is not None:
            raise act.error
        return act.messages[0]

    async def stream(self, request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        act = self.next(request)
        for message in act.messages:
            yield message
        if act.error is not None:
            raise act.error


def registrations(script: Script, only: str = "") -> Iterator[ServiceRegistration[Any]]:
    """Return the services of the port, all of them played."""
    for module, stubs, name in (
        (tasks_pb2, tasks_pb2_grpc, "TaskService"),
        (steps_pb2, steps_pb2_grpc, "StepService"),
        (templates_pb2, templates_pb2_grpc, "TemplateService"),
        (dlq_pb2, dlq_pb2_grpc, "DlqService"),
        (health_pb2, health_pb2_grpc, "HealthService"),
        (batch_pb2, batch_pb2_grpc, "BatchService"),
        (template_admin_pb2, template_admin_pb2_grpc, "TemplateAdminService"),
        (operations_pb2, operations_pb2_grpc, "OperationsService"),
        (watch_pb2, watch_pb2_grpc, "WatchService"),
    ):
        if only not in ("", name):
            continue
        descriptor = module.DESCRIPTOR.services_by_name[name]
        play = {
            method.name: script.stream if method.server_streaming else script.answer
            for method in descriptor.methods
        }
        yield ServiceRegistration(
            descriptor, SimpleNamespace(**play), getattr(stubs, f"add_{name}Servicer_to_server")
        )


@asynccontextmanager
async def played(*acts: Act, only: str = "") -> AsyncIterator[tuple[str, Script]]:
    """Run the services of the port, or only the one named, that play the acts; yield their address."""
    script = Script(acts)
    async with build_server("127.0.0.1:0", services=list(registrations(script, only))) as server:
        yield server.address, script


@asynccontextmanager
async def playing(
    *acts: Act, timeout_seconds: float = 30, only: str = ""
) -> AsyncIterator[tuple[TaskerClient, Script]]:
    """The same with a client."""
    async with (
        played(*acts, only=only) as (address, script),
        TaskerClient(address, timeout_seconds=timeout_seconds) as client,
    ):
        yield client, script


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
