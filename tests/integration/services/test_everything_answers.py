"""UNIMPLEMENTED is left to nothing that reflection lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import descriptor_pb2
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tasker.orchestration.service import OrchestrationService
from tests.support import services
from tests.support.clients import Client
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.workshop import Workshop

_OURS: Final = "tasker.v1."


async def _ask(client: Client, **question: str) -> Any:
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(**question)
    call = stub.ServerReflectionInfo(iter([request]), timeout=PATIENCE_SECONDS)
    return await anext(aiter(call))


async def _methods(client: Client) -> list[tuple[str, bool]]:
    """Return the path of every method that reflection lists of ours, and whether it streams its answers."""
    listed = (await _ask(client, list_services="")).list_services_response.service
    found = []
    for name in (service.name for service in listed if service.name.startswith(_OURS)):
        answer = await _ask(client, file_containing_symbol=name)
        for text in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(text)
            found += [
                (f"/{name}/{method.name}", method.server_streaming)
                for service in file.service
                if f"{file.package}.{service.name}" == name
                for method in service.method
            ]
    return found


async def _code(client: Client, path: str, streams: bool) -> StatusCode:
    """Call a method with an empty message, and return how that ends."""
    if not streams:
        unary = client.channel.unary_unary(path, bytes, bytes)(b"", timeout=PATIENCE_SECONDS)
        return StatusCode(await unary.code())
    stream = client.channel.unary_stream(path, bytes, bytes)(b"", timeout=PATIENCE_SECONDS)
    await stream.initial_metadata()  # one that goes on has answered by that
    if stream.done():
        return StatusCode(await stream.code())
    stream.cancel()
    return StatusCode.OK


@pytest.mark.parametrize("which", ["orchestration", "worker"])
async def test_every_method_answers(
    database_url: str, orchestration: OrchestrationService, workshop: Workshop, templates: Path, which: str
) -> None:
    async with services.worker(database_url, workshop.registry, templates) as worker:
        address = orchestration.address if which == "orchestration" else worker.address
        async with Client(address) as client:
            methods = await _methods(client)
            assert len(methods) >= {"orchestration": 20, "worker": 7}[which]
            mute = [
                path
                for path, streams in methods
                if await _code(client, path, streams) is StatusCode.UNIMPLEMENTED
            ]
    assert mute == []
