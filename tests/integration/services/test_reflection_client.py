"""A client that has none of our code: everything it knows comes from reflection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2

from tasker.orchestration.service import OrchestrationService
from tests.support import services, waiting
from tests.support.workshop import Workshop

VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


class Stranger:
    """Talks to a server of which it knows the address."""

    def __init__(self, channel: aio.Channel, version: str) -> None:
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

    async def call(self, service: str, method: str, **fields: Any) -> AsyncIterator[dict[str, Any]]:
        """Call a method with fields by name and yield its answers as plain values."""
        if service not in self._known:
            await self._learn(file_containing_symbol=service)
            self._known.add(service)
        found = self._pool.FindServiceByName(service).FindMethodByName(method)
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


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_with_nothing_but_reflection_watches_a_task_complete(
    database_url: str, orchestration: OrchestrationService, workshop: Workshop, templates: Path, version: str
) -> None:
    async with (
        services.worker(database_url, workshop.registry, templates) as worker,
        aio.insecure_channel(orchestration.address) as channel,
        aio.insecure_channel(worker.address) as worker_channel,
    ):
        stranger = Stranger(channel, version)
        served = ("Task", "Step", "Template", "Analytics", "Dlq", "Config", "Health")
        assert await stranger.services() == {
            *(f"tasker.v1.{name}Service" for name in served),
            "grpc.health.v1.Health",
            *(f"{known}.ServerReflection" for known in VERSIONS),
        }
        assert {name for name in await Stranger(worker_channel, version).services() if "Worker" in name} == {
            f"tasker.v1.Worker{name}Service" for name in ("Config", "Health", "Template")
        }
        tasks = "tasker.v1.TaskService"
        async for created in stranger.call(
            tasks, "CreateTask", namespace="test", name="diamond", context={"n": 6}
        ):
            assert created["task"]["state"] == "TASK_STATE_STEPS_IN_PROCESS"
        task_uuid = created["task"]["task_uuid"]
        updates = [
            update
            async for update in stranger.call(
                tasks, "StreamTaskStatus", task_uuid=task_uuid, include_steps=True, resume_cursor=""
            )
        ]
        assert updates[-1]["update_type"] == "UPDATE_TYPE_TASK_COMPLETE"
        complete = [
            update["step_update"]["name"]
            for update in updates
            if update.get("step_update", {}).get("state") == "STEP_STATE_COMPLETE"
        ]
        assert (complete[0], complete[-1], len(complete)) == ("start", "end", 4)
        async for got in stranger.call(tasks, "GetTask", task_uuid=task_uuid, include_steps=True):
            assert got["task"]["state"] == "TASK_STATE_COMPLETE"
            assert got["steps"][0]["results"]["result"] == {"step": "start"}
        async for ready in stranger.call("tasker.v1.HealthService", "CheckReadiness"):
            assert ready["status"] == "ready"
