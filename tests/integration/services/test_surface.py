"""What each port serves, and that nothing on the wire can break it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode, aio

from tasker.orchestration.service import OrchestrationService
from tasker.v1 import (
    analytics_pb2,
    config_pb2,
    dlq_pb2,
    health_pb2,
    steps_pb2,
    tasks_pb2,
    templates_pb2,
    watch_pb2,
    worker_pb2,
)
from tasker.worker.service import WorkerService
from tests.support import clients, services, waiting
from tests.support.clients import Client
from tests.support.engine import Engine, chain
from tests.support.workshop import Workshop

ORCHESTRATION_SERVICES: tuple[ServiceDescriptor, ...] = (
    tasks_pb2.DESCRIPTOR.services_by_name["TaskService"],
    steps_pb2.DESCRIPTOR.services_by_name["StepService"],
    templates_pb2.DESCRIPTOR.services_by_name["TemplateService"],
    analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"],
    dlq_pb2.DESCRIPTOR.services_by_name["DlqService"],
    config_pb2.DESCRIPTOR.services_by_name["ConfigService"],
    health_pb2.DESCRIPTOR.services_by_name["HealthService"],
    watch_pb2.DESCRIPTOR.services_by_name["WatchService"],
)
WORKER_SERVICES: tuple[ServiceDescriptor, ...] = tuple(worker_pb2.DESCRIPTOR.services_by_name.values())


@pytest.fixture
async def worker(
    database_url: str, orchestration: OrchestrationService, workshop: Workshop, templates: Path
) -> AsyncIterator[WorkerService]:
    async with services.worker(database_url, workshop.registry, templates) as service:
        yield service


def _as_is(data: bytes) -> bytes:
    return data


async def status_of(channel: aio.Channel, method: MethodDescriptor, request: bytes = b"") -> StatusCode:
    """Call a method with any bytes and return how the call ends; a stream is answered by its first message."""
    name = f"/{method.containing_service.full_name}/{method.name}"
    if method.server_streaming:
        stream = channel.unary_stream(name, _as_is, _as_is)(request, timeout=5)
        try:
            async for _ in stream:
                break
        except aio.AioRpcError as error:
            return error.code()
        return StatusCode.OK
    try:
        await channel.unary_unary(name, _as_is, _as_is)(request, timeout=5)
    except aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


def methods(descriptors: tuple[ServiceDescriptor, ...]) -> list[MethodDescriptor]:
    return [method for service in descriptors for method in service.methods]


async def test_every_service_is_on_its_port(
    orchestration: OrchestrationService, worker: WorkerService
) -> None:
    for address, own, other in (
        (orchestration.address, ORCHESTRATION_SERVICES, WORKER_SERVICES),
        (worker.address, WORKER_SERVICES, ORCHESTRATION_SERVICES),
    ):
        async with Client(address) as client:
            assert all([await client.serving(service.full_name) for service in own])
            for method in methods(own):
                code = await status_of(client.channel, method)
                assert code is not StatusCode.UNIMPLEMENTED, method.full_name
            for method in methods(other):
                assert await status_of(client.channel, method) is StatusCode.UNIMPLEMENTED, method.full_name


async def test_nothing_on_the_wire_breaks_a_server(
    orchestration: OrchestrationService, worker: WorkerService, client: Client, engine: Engine
) -> None:
    garbage = (
        b"\xff" * 40,
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\x02\xff\xfe",
        b"\x00" * 1000,
    )
    for address, own in ((orchestration.address, ORCHESTRATION_SERVICES), (worker.address, WORKER_SERVICES)):
        async with aio.insecure_channel(address) as channel:
            codes = await asyncio.gather(
                *(status_of(channel, method, request) for method in methods(own) for request in garbage),
                status_of(channel, own[0].methods[0], b"x" * (5 * 1024 * 1024)),
            )
        assert codes[-1] is StatusCode.RESOURCE_EXHAUSTED
        assert StatusCode.UNKNOWN not in codes
        assert StatusCode.INTERNAL not in codes
        host, _, port = address.rpartition(":")
        for noise in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500,
            b"\x00" * 64,
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(noise)
            writer.write_eof()
            with suppress(ConnectionError):
                await waiting.within(reader.read(), seconds=10)
            writer.close()
    await engine.register(chain(1))
    task = await client.create()
    assert (await client.watch(task.task_uuid))[-1].update_type == clients.Update.UPDATE_TYPE_TASK_COMPLETE


async def test_a_default_request_of_every_method_is_answered_in_kind(
    orchestration: OrchestrationService, client: Client
) -> None:
    """The emptiest message each method takes: never UNKNOWN, never INTERNAL."""
    for method in methods(ORCHESTRATION_SERVICES):
        request = GetMessageClass(method.input_type)().SerializeToString()
        code = await status_of(client.channel, method, request)
        assert code in (StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.UNIMPLEMENTED), (
            method.full_name
        )
