"""A client that has none of our code: everything it knows comes from reflection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2

from tests.support import waiting

VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


class Stranger:
    """Talks to a server of which it knows the address."""

    def __init__(self, channel: aio.Channel, version: str = VERSIONS[0]) -> None:
        self._channel = channel
        # The messages of both versions are the same on the wire.
        self._ask_server = channel.stream_stream(
            f"/{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        self._pool = DescriptorPool()
        self._known: set[str] = set()

    async def services(self) -> set[str]:
        """Return the names of all services."""
        answer = await self._ask(list_services="")
        return {service.name for service in answer.list_services_response.service}

    async def methods(self, service: str) -> list[MethodDescriptor]:
        """Return all methods of a service."""
        if service not in self._known:
            await self._learn(file_containing_symbol=service)
            self._known.add(service)
        return list(self._pool.FindServiceByName(service).methods)

    async def call(self, service: str, method: str, **fields: Any) -> AsyncIterator[dict[str, Any]]:
        """Call a method with fields by name and yield its answers as plain values."""
        (found,) = [known for known in await self.methods(service) if known.name == method]
        request = json_format.ParseDict(fields, GetMessageClass(found.input_type)())
        answers = GetMessageClass(found.output_type)
        path = f"/{service}/{method}"
        if found.server_streaming:
            stream = self._channel.unary_stream(path, _to_bytes, answers.FromString)
            async for answer in stream(request, timeout=waiting.PATIENCE_SECONDS):
                yield _plain(answer)
        else:
            unary = self._channel.unary_unary(path, _to_bytes, answers.FromString)
            yield _plain(await unary(request, timeout=waiting.PATIENCE_SECONDS))

    async def _learn(self, **what: str) -> None:
        """Add the file that holds a symbol, after all that it imports."""
        answer = await self._ask(**what)
        files = [
            FileDescriptorProto.FromString(data)
            for data in answer.file_descriptor_response.file_descriptor_proto
        ]
        for file in files:
            if file.name in self._known:
                continue
            self._known.add(file.name)
            for imported in file.dependency:
                if imported not in self._known:
                    await self._learn(file_by_filename=imported)
            self._pool.Add(file)

    async def _ask(self, **what: str) -> reflection_pb2.ServerReflectionResponse:
        async def question() -> AsyncIterator[Any]:
            yield reflection_pb2.ServerReflectionRequest(**what)

        async for answer in self._ask_server(question(), timeout=waiting.PATIENCE_SECONDS):
            assert not answer.HasField("error_response"), answer.error_response.error_message
            return answer
        raise AssertionError("reflection said nothing")


def _to_bytes(message: Message) -> bytes:
    return message.SerializeToString()


def _plain(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
