"""Reflection in both versions, as tools that know no .proto file use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.descriptor_database import DescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import StatusCode, aio
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from tasker.rpc.server import ServerOptions, ServiceRegistration, build_server
from tasker.rpc.streams import MOST_PUBLIC_STREAMS_OF_CONNECTION
from tasker.v1 import config_pb2, config_pb2_grpc, tasks_pb2, tasks_pb2_grpc

SERVICES: list[ServiceRegistration[Any]] = [
    ServiceRegistration(
        tasks_pb2.DESCRIPTOR.services_by_name["TaskService"],
        tasks_pb2_grpc.TaskServiceServicer(),
        tasks_pb2_grpc.add_TaskServiceServicer_to_server,
    ),
    ServiceRegistration(
        config_pb2.DESCRIPTOR.services_by_name["ConfigService"],
        config_pb2_grpc.ConfigServiceServicer(),
        config_pb2_grpc.add_ConfigServiceServicer_to_server,
    ),
]
LISTED = {
    "tasker.v1.TaskService",
    "tasker.v1.ConfigService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


class Reflected:
    """Asks a server about itself in one version of the protocol."""

    def __init__(self, channel: aio.Channel, version: str) -> None:
        self._call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )

    def open(self) -> Any:
        call: Any = self._call
        return call(timeout=30)

    async def ask(self, **question: str) -> ServerReflectionResponse:
        async def questions() -> AsyncIterator[ServerReflectionRequest]:
            yield ServerReflectionRequest(**question)

        async for answer in self._call(questions(), timeout=10):
            return answer
        raise AssertionError("no answer")

    async def files(self, **question: str) -> list[FileDescriptorProto]:
        answer = await self.ask(**question)
        return [
            FileDescriptorProto.FromString(file)
            for file in answer.file_descriptor_response.file_descriptor_proto
        ]


@pytest_asyncio.fixture(params=["v1", "v1alpha"])
async def reflected(request: pytest.FixtureRequest) -> AsyncIterator[Reflected]:
    async with (
        build_server("127.0.0.1:0", services=SERVICES) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        yield Reflected(channel, request.param)


def names(files: Iterable[FileDescriptorProto]) -> set[str]:
    return {file.name for file in files}


async def test_every_service_of_the_server_is_listed(reflected: Reflected) -> None:
    answer = await reflected.ask(list_services="")
    assert {service.name for service in answer.list_services_response.service} == LISTED


async def test_a_file_comes_by_its_published_name_with_its_imports(reflected: Reflected) -> None:
    files = await reflected.files(file_by_filename="tasker/v1/tasks.proto")
    assert files[0].name == "tasker/v1/tasks.proto"
    assert names(files) == {
        "tasker/v1/tasks.proto",
        "tasker/v1/common.proto",
        "tasker/v1/failures.proto",
        "google/protobuf/struct.proto",
        "google/protobuf/timestamp.proto",
    }


async def test_a_file_comes_by_a_symbol_in_it(reflected: Reflected) -> None:
    for symbol in ("tasker.v1.TaskService", "tasker.v1.Task", "tasker.v1.TaskStatusUpdate.UpdateType"):
        assert (await reflected.files(file_containing_symbol=symbol))[0].name == "tasker/v1/tasks.proto"


async def test_every_listed_service_can_be_described(reflected: Reflected) -> None:
    for name in LISTED:
        files = DescriptorDatabase()
        for file in await reflected.files(file_containing_symbol=name):
            files.Add(file)
        assert DescriptorPool(files).FindServiceByName(name).methods, name


@pytest.mark.parametrize(
    "method", ["tasker.v1.TaskService.CreateTask", "grpc.reflection.v1.ServerReflection.ServerReflectionInfo"]
)
async def test_a_file_comes_by_a_method_in_it(reflected: Reflected, method: str) -> None:
    service = method.rpartition(".")[0]
    assert await reflected.files(file_containing_symbol=method) == await reflected.files(
        file_containing_symbol=service
    )


async def test_types_of_status_details_can_be_described(reflected: Reflected) -> None:
    files = await reflected.files(file_containing_symbol="google.rpc.ErrorInfo")
    assert "google/rpc/error_details.proto" in names(files)


@pytest.mark.parametrize(
    "symbol",
    [
        "tasker.v1.WorkerHealthService",
        "tasker.v1.WorkerHealthService.CheckHealth",
        "tasker.v1.TaskService.DropTask",
    ],
)
async def test_what_the_server_does_not_serve_is_not_found(reflected: Reflected, symbol: str) -> None:
    answer = await reflected.ask(file_containing_symbol=symbol)
    assert answer.error_response.error_code == StatusCode.NOT_FOUND.value[0]


async def test_streams_of_a_connection_are_limited(reflected: Reflected) -> None:
    calls = [reflected.open() for _ in range(MOST_PUBLIC_STREAMS_OF_CONNECTION)]
    for call in calls:
        await call.write(ServerReflectionRequest(list_services=""))
        await call.read()
    with pytest.raises(aio.AioRpcError, match="this connection has 50 streams open") as caught:
        await reflected.ask(list_services="")
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    for call in calls:
        call.cancel()


async def test_a_question_whose_answer_could_not_be_read_is_refused(reflected: Reflected) -> None:
    with pytest.raises(aio.AioRpcError, match="ask for one symbol") as caught:
        await reflected.ask(file_containing_symbol="x" * 4_190_000)
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    answer = await reflected.ask(file_containing_symbol="x" * 4000)
    assert answer.error_response.error_code == StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_can_be_switched_off(version: str) -> None:
    options = ServerOptions(enable_reflection=False)
    async with (
        build_server("127.0.0.1:0", services=SERVICES, options=options) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await Reflected(channel, version).ask(list_services="")
    assert caught.value.code() is StatusCode.UNIMPLEMENTED
