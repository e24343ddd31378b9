"""Stubs of the services on one channel, and how a call was refused."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tasker.v1 import (
    analytics_pb2_grpc,
    config_pb2_grpc,
    dlq_pb2_grpc,
    steps_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
    templates_pb2_grpc,
    watch_pb2,
    watch_pb2_grpc,
    worker_pb2_grpc,
)
from tasker.v1 import health_pb2_grpc as tasker_health_pb2_grpc
from tests.support.waiting import PATIENCE_SECONDS

Report = TypeVar("Report", bound=Message)

Update = tasks_pb2.TaskStatusUpdate


class Client:
    """The stubs of every service that answers, on one channel."""

    def __init__(self, address: str, *, options: Sequence[tuple[str, int]] = ()) -> None:
        self.channel = aio.insecure_channel(address, options=options)
        self.tasks = tasks_pb2_grpc.TaskServiceStub(self.channel)
        self.steps = steps_pb2_grpc.StepServiceStub(self.channel)
        self.dlq = dlq_pb2_grpc.DlqServiceStub(self.channel)
        self.templates = templates_pb2_grpc.TemplateServiceStub(self.channel)
        self.watches = watch_pb2_grpc.WatchServiceStub(self.channel)
        self.analytics = analytics_pb2_grpc.AnalyticsServiceStub(self.channel)
        self.config = config_pb2_grpc.ConfigServiceStub(self.channel)
        self.health = tasker_health_pb2_grpc.HealthServiceStub(self.channel)
        self.worker_config = worker_pb2_grpc.WorkerConfigServiceStub(self.channel)
        self.worker_health = worker_pb2_grpc.WorkerHealthServiceStub(self.channel)
        self.worker_templates = worker_pb2_grpc.WorkerTemplateServiceStub(self.channel)
        self.probes = health_pb2_grpc.HealthStub(self.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close(None)

    async def create(
        self, *, name: str = "workflow", namespace: str = "test", **fields: Any
    ) -> tasks_pb2.Task:
        """Create a task and return it."""
        request = tasks_pb2.CreateTaskRequest(name=name, namespace=namespace, **fields)
        return (await self.tasks.CreateTask(request, timeout=PATIENCE_SECONDS)).task

    async def get(self, task_uuid: str) -> tasks_pb2.Task:
        """Return a task."""
        request = tasks_pb2.GetTaskRequest(task_uuid=task_uuid)
        return (await self.tasks.GetTask(request, timeout=PATIENCE_SECONDS)).task

    async def list_steps(self, task_uuid: str) -> dict[str, tasks_pb2.Step]:
        """Return the steps of a task by name."""
        response = await self.tasks.GetTask(
            tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_steps=True), timeout=PATIENCE_SECONDS
        )
        return {step.name: step for step in response.steps}

    def stream(self, task_uuid: str, **fields: Any) -> aio.UnaryStreamCall[Any, Update]:
        """Open a stream of a task."""
        request = tasks_pb2.StreamTaskStatusRequest(task_uuid=task_uuid, **fields)
        return self.tasks.StreamTaskStatus(request, timeout=PATIENCE_SECONDS)

    async def watch(self, task_uuid: str, **fields: Any) -> list[Update]:
        """Return everything a stream brings until the server ends it."""
        return [update async for update in self.stream(task_uuid, **fields)]

    def feed(self, **fields: Any) -> aio.UnaryStreamCall[Any, watch_pb2.WatchTasksResponse]:
        """Open a stream of all tasks that match."""
        return self.watches.WatchTasks(watch_pb2.WatchTasksRequest(**fields), timeout=PATIENCE_SECONDS)

    async def serving(self, service: str = "") -> bool:
        """Ask grpc.health.v1 once."""
        response = await self.probes.Check(
            health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_SECONDS
        )
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


@dataclass(frozen=True)
class Refusal:
    """How a call was refused.

    Attributes:
        reason: Of the ErrorInfo.
        facts: Its metadata.
        violations: Field and description of each, of the BadRequest.
        retry_after: Seconds, of the RetryInfo.
        details: Everything in the details of the status.
    """

    code: StatusCode
    message: str
    reason: str
    facts: Mapping[str, str]
    violations: tuple[tuple[str, str], ...]
    retry_after: float | None
    details: tuple[any_pb2.Any, ...]

    @property
    def fields(self) -> set[str]:
        """The fields that are wrong."""
        return {field for field, _ in self.violations}

    @classmethod
    def of(cls, error: aio.AioRpcError) -> Refusal:
        """Read it from the error."""
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        status = rpc_status.from_call(cast(grpc.Call, error))  # it has what is read of one
        for detail in status.details if status else ():
            for message in (info, bad_request, retry):
                if detail.Is(message.DESCRIPTOR):
                    detail.Unpack(message)
        return cls(
            error.code(),
            error.details() or "",
            info.reason,
            dict(info.metadata),
            tuple((violation.field, violation.description) for violation in bad_request.field_violations),
            retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
            tuple(status.details) if status else (),
        )

    def report(self, kind: type[Report]) -> Report:
        """Return the message of some type among the details."""
        for detail in self.details:
            message = kind()
            if detail.Unpack(message):
                return message
        raise AssertionError(f"no {kind.DESCRIPTOR.name} in {self.details}")


async def refused(call: Awaitable[object]) -> Refusal:
    """Return how a call is refused."""
    try:
        answer = await call
    except aio.AioRpcError as error:
        return Refusal.of(error)
    raise AssertionError(f"the call was answered: {answer}")
