"""The fuzzer finds what it is there for, and reaches what it must."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from grpc import StatusCode

from tasker.domain.errors import NotFoundError
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.server import ServiceRegistration, build_server
from tasker.v1 import health_pb2, tasks_pb2, tasks_pb2_grpc, templates_pb2
from tests.support.fuzzed_messages import MOST_BYTES, Lore, RequestMaker
from tests.support.fuzzing import Fuzzer, Report

TASKS = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"]


class Servicer(tasks_pb2_grpc.TaskServiceServicer):
    """Answers one method as a test says, and knows nothing otherwise."""

    def __init__(self, get: Callable[[], Awaitable[tasks_pb2.GetTaskResponse]]) -> None:
        self._get = get
        for method in TASKS.methods:
            if method.name not in ("GetTask", "StreamTaskStatus"):
                setattr(self, method.name, self._unknown)

    async def GetTask(
        self, request: tasks_pb2.GetTaskRequest, context: ServicerContext
    ) -> tasks_pb2.GetTaskResponse:
        return await self._get()

    async def StreamTaskStatus(
        self, request: tasks_pb2.StreamTaskStatusRequest, context: ServicerContext
    ) -> AsyncIterator[tasks_pb2.TaskStatusUpdate]:
        while True:
            yield tasks_pb2.TaskStatusUpdate(cursor="here")

    async def _unknown(self, request: Any, context: ServicerContext) -> Any:
        raise NotFoundError("task", "none")


async def report_on(get: Callable[[], Awaitable[tasks_pb2.GetTaskResponse]], lore: Lore) -> Report:
    """Fuzz a server that answers GetTask so."""
    service = ServiceRegistration(TASKS, Servicer(get), tasks_pb2_grpc.add_TaskServiceServicer_to_server)
    async with build_server("127.0.0.1:0", services=[service]) as server:
        async with Fuzzer(server.address, "seed", lore) as fuzzer:
            calls = len(fuzzer.methods) * 4
            await fuzzer.run(lambda number: number < calls)
        return fuzzer.report


async def test_good_answers_are_no_finding_and_are_learned_from() -> None:
    async def get() -> tasks_pb2.GetTaskResponse:
        return tasks_pb2.GetTaskResponse(task=tasks_pb2.Task(task_uuid="seven"))

    lore = Lore({})
    report = await report_on(get, lore)
    assert report.findings == []
    assert report.answers["tasker.v1.TaskService.GetTask", StatusCode.OK] > 0
    assert report.answers["tasker.v1.TaskService.StreamTaskStatus", StatusCode.OK] > 0
    assert report.answers["grpc.health.v1.Health.List", StatusCode.OK] > 0
    assert report.answers["tasker.v1.TaskService.CancelTask", StatusCode.NOT_FOUND] > 0
    assert lore.tell("task_uuid", random.Random(1)) == "seven"
    assert lore.tell("resume_cursor", random.Random(1)) == "here"


async def test_an_undocumented_answer_is_found() -> None:
    async def get() -> tasks_pb2.GetTaskResponse:
        raise RuntimeError("a defect")

    (found, *_) = (await report_on(get, Lore({}))).findings
    assert (found.method, found.code) == ("tasker.v1.TaskService.GetTask", StatusCode.INTERNAL)


async def test_an_answer_that_clients_cannot_read_is_found() -> None:
    async def get() -> tasks_pb2.GetTaskResponse:
        return tasks_pb2.GetTaskResponse(task=tasks_pb2.Task(name="x" * (MOST_BYTES + 1)))

    (found, *_) = (await report_on(get, Lore({}))).findings
    assert found.code is StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in found.message


@pytest.mark.parametrize(
    "kind",
    [
        tasks_pb2.CreateTaskRequest.DESCRIPTOR,
        tasks_pb2.ListTasksRequest.DESCRIPTOR,
        templates_pb2.GetTemplateResponse.DESCRIPTOR,
        health_pb2.HealthRequest.DESCRIPTOR,
    ],
    ids=lambda kind: kind.name,
)
def test_a_seed_decides_the_request(kind: Any) -> None:
    first, second = (RequestMaker(random.Random(5), Lore({})) for _ in range(2))
    assert [first.request(kind) for _ in range(50)] == [second.request(kind) for _ in range(50)]


def test_requests_are_of_every_sort() -> None:
    requests = []
    undecodable = 0
    maker = RequestMaker(random.Random(3), Lore({"name": ["checkout"]}))
    sizes = set()
    for _ in range(1500):
        data = maker.request(tasks_pb2.CreateTaskRequest.DESCRIPTOR)
        sizes.add(len(data))
        try:
            requests.append(tasks_pb2.CreateTaskRequest.FromString(data))
        except DecodeError:
            undecodable += 1
    assert undecodable > 50
    assert 0 in sizes
    assert any(MOST_BYTES - 200 < size <= MOST_BYTES for size in sizes)
    assert any(size > MOST_BYTES for size in sizes)
    assert any(request.name == "checkout" for request in requests)
    assert any(request.HasField("priority") and request.priority > 100 for request in requests)
    assert any(depth(request.context) > 2 for request in requests)


def depth(struct: Struct) -> int:
    inner = [value.struct_value for value in struct.fields.values() if value.HasField("struct_value")]
    return 1 + max(map(depth, inner), default=0)
