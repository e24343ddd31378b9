"""How a server listens and what its transport bears."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode, aio

from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.server import (
    ORCHESTRATION_OPTIONS,
    WORKER_OPTIONS,
    BindError,
    RpcServer,
    ServerOptions,
    ServiceRegistration,
    build_server,
)
from tasker.rpc.streams import MOST_STREAMS_OF_CONNECTION
from tasker.v1 import tasks_pb2, tasks_pb2_grpc

MIB = 1024 * 1024


class EchoServicer(tasks_pb2_grpc.TaskServiceServicer):
    async def GetTask(
        self, request: tasks_pb2.GetTaskRequest, context: ServicerContext
    ) -> tasks_pb2.GetTaskResponse:
        return tasks_pb2.GetTaskResponse(task=tasks_pb2.Task(task_uuid=request.task_uuid))


def echo_server(bind_address: str, options: ServerOptions = ORCHESTRATION_OPTIONS) -> RpcServer:
    service = ServiceRegistration(
        tasks_pb2.DESCRIPTOR.services_by_name["TaskService"],
        EchoServicer(),
        tasks_pb2_grpc.add_TaskServiceServicer_to_server,
    )
    return build_server(bind_address, services=[service], options=options)


async def echo(server: RpcServer, text: str, compression: grpc.Compression | None = None) -> str:
    async with aio.insecure_channel(server.address, compression=compression) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        return (await stub.GetTask(tasks_pb2.GetTaskRequest(task_uuid=text), timeout=10)).task.task_uuid


# Listening


async def test_port_0_binds_a_free_port_and_reports_it() -> None:
    async with echo_server("127.0.0.1:0") as server:
        assert server.port > 0
        assert server.address == f"127.0.0.1:{server.port}"
        assert await echo(server, "hello") == "hello"


async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/rpc"
    async with echo_server(address) as server:
        assert (server.address, server.port) == (address, 0)
        assert await echo(server, "hello") == "hello"


async def test_a_busy_port_is_refused_by_name() -> None:
    async with echo_server("127.0.0.1:0") as server:
        with pytest.raises(
            BindError, match=rf"cannot listen on {server.address}: the port is in use"
        ) as caught:
            echo_server(server.address)
        assert caught.value.bind_address == server.address
        assert await echo(server, "still there") == "still there"


@pytest.mark.parametrize(
    "address", ["192.0.2.1:0", "127.0.0.1:99999", "127.0.0.1:http", "127.0.0.1", "unix:/no/such/folder/rpc"]
)
async def test_an_address_that_cannot_be_is_refused_by_name(address: str) -> None:
    with pytest.raises(BindError, match=f"cannot listen on {address}"):
        echo_server(address)


# Limits


def test_options_are_those_that_are_promised() -> None:
    arguments = dict(ORCHESTRATION_OPTIONS.channel_arguments())
    assert arguments["grpc.keepalive_time_ms"] == 30_000
    assert arguments["grpc.keepalive_timeout_ms"] == 20_000
    assert arguments["grpc.keepalive_permit_without_calls"] == 1
    # More than the streams that a connection may have open: other calls never wait behind those.
    assert arguments["grpc.max_concurrent_streams"] == 1200 > MOST_STREAMS_OF_CONNECTION
    assert arguments["grpc.max_receive_message_length"] == 4 * MIB
    assert dict(WORKER_OPTIONS.channel_arguments())["grpc.max_concurrent_streams"] == 1000


async def test_a_gzip_request_is_accepted() -> None:
    async with echo_server("127.0.0.1:0") as server:
        assert await echo(server, "x" * MIB, grpc.Compression.Gzip) == "x" * MIB


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
async def test_a_request_over_the_limit_is_refused(compression: grpc.Compression | None) -> None:
    async with echo_server("127.0.0.1:0") as server:
        with pytest.raises(aio.AioRpcError) as caught:
            await echo(server, "x" * 5 * MIB, compression)
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_the_limit_can_be_moved() -> None:
    async with echo_server("127.0.0.1:0", ServerOptions(max_request_bytes=6 * MIB)) as server:
        with pytest.raises(aio.AioRpcError, match="Received message larger than max"):  # by this client
            await echo(server, "x" * 5 * MIB)


# Keepalive: a client that pings over a silent stream, spoken in bare HTTP/2 because no client library lets a
# test choose when it pings


DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7


class PingingClient:
    """Holds a stream open on which nothing happens, and pings."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def watch_health(self) -> None:
        def literal(name: str, value: str) -> bytes:
            return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/grpc.health.v1.Health/Watch",
            ":authority": "test",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._send(SETTINGS)
        end_headers, end_stream = 4, 1
        self._send(HEADERS, b"".join(literal(*pair) for pair in headers.items()), end_headers, stream=1)
        self._send(DATA, b"\0\0\0\0\0", end_stream, stream=1)

    async def is_answered(self) -> bool:
        """Ping once; whether the server answered rather than send the client away."""
        self._send(PING, b"tasker!!")
        while True:
            kind, flags, payload = await self._receive()
            if kind == PING and not flags & 1:
                self._send(PING, payload, flags=1)
            elif kind in (PING, GOAWAY):
                assert kind == PING or b"too_many_pings" in payload
                return kind == PING

    def _send(self, kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> None:
        self._writer.write(
            struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
        )

    async def _receive(self) -> tuple[int, int, bytes]:
        header = await asyncio.wait_for(self._reader.readexactly(9), 10)
        payload = await asyncio.wait_for(self._reader.readexactly(int.from_bytes(header[:3], "big")), 10)
        return header[3], header[4], payload


@asynccontextmanager
async def pinging_client(options: ServerOptions) -> AsyncIterator[PingingClient]:
    async with echo_server("127.0.0.1:0", options) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            client = PingingClient(reader, writer)
            client.watch_health()
            yield client
        finally:
            writer.close()
            await writer.wait_closed()


async def test_pings_over_a_silent_stream_do_not_end_it() -> None:
    interval = 0.02
    async with pinging_client(ServerOptions(min_ping_interval_seconds=interval)) as client:
        for _ in range(15):
            assert await client.is_answered()
            await asyncio.sleep(2 * interval)  # the server compares wall-clock times: waiting is the subject


def test_a_ping_each_second_is_twice_as_slow_as_allowed() -> None:
    arguments = dict(ORCHESTRATION_OPTIONS.channel_arguments())
    assert arguments["grpc.http2.min_ping_interval_without_data_ms"] <= 500


async def test_a_flood_of_pings_ends_its_connection() -> None:
    """Also shows that the test above would notice."""
    async with pinging_client(ServerOptions(min_ping_interval_seconds=300)) as client:
        for _ in range(20):
            if not await client.is_answered():
                return
    pytest.fail("20 pings at once were answered")
