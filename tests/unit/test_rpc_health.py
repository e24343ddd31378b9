"""What probes are told: readiness by name, liveness apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tasker.rpc import streams
from tasker.rpc.server import RpcServer, ServiceRegistration, build_server
from tasker.rpc.streams import MOST_PUBLIC_STREAMS_OF_CONNECTION
from tasker.v1 import health_pb2 as tasker_health_pb2
from tasker.v1 import health_pb2_grpc as tasker_health_pb2_grpc

READINESS_NAMES = ["", "tasker.v1.HealthService"]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RpcServer]:
    service = ServiceRegistration(
        tasker_health_pb2.DESCRIPTOR.services_by_name["HealthService"],
        tasker_health_pb2_grpc.HealthServiceServicer(),
        tasker_health_pb2_grpc.add_HealthServiceServicer_to_server,
    )
    async with build_server("127.0.0.1:0", services=[service]) as server:
        yield server


@pytest_asyncio.fixture
async def probe(server: RpcServer) -> AsyncIterator[health_pb2_grpc.HealthStub]:
    async with aio.insecure_channel(server.address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def status_of(probe: health_pb2_grpc.HealthStub, name: str) -> int:
    response = await probe.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    return int(response.status)


@pytest.mark.parametrize("name", READINESS_NAMES)
async def test_a_server_is_not_ready_until_told_so(
    server: RpcServer, probe: health_pb2_grpc.HealthStub, name: str
) -> None:
    assert await status_of(probe, name) == NOT_SERVING
    await server.health.set_ready(True)
    assert await status_of(probe, name) == SERVING
    await server.health.set_ready(False)
    assert await status_of(probe, name) == NOT_SERVING


async def test_a_check_looks_before_it_answers_while_ready(
    server: RpcServer, probe: health_pb2_grpc.HealthStub
) -> None:
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            await server.health.set_ready(False)

    server.health.refresh_by(look)
    assert await status_of(probe, "") == NOT_SERVING
    assert looks == 0  # who is not ready says so
    await server.health.set_ready(True)
    assert await status_of(probe, "") == SERVING
    assert await status_of(probe, "liveness") == SERVING
    assert looks == 1
    assert await status_of(probe, "") == NOT_SERVING
    assert looks == 2
    assert await status_of(probe, "liveness") == SERVING


async def test_all_names_are_listed_with_what_a_check_says(
    server: RpcServer, probe: health_pb2_grpc.HealthStub
) -> None:
    async def listed() -> dict[str, int]:
        answer = await probe.List(health_pb2.HealthListRequest(), timeout=10)
        return {name: status.status for name, status in answer.statuses.items()}

    assert await listed() == dict.fromkeys(READINESS_NAMES, NOT_SERVING) | {"liveness": SERVING}
    await server.health.set_ready(True)
    server.health.refresh_by(lambda: server.health.set_ready(False))
    assert (await listed())[""] == NOT_SERVING  # it looked


async def test_liveness_does_not_follow_readiness(
    server: RpcServer, probe: health_pb2_grpc.HealthStub
) -> None:
    assert await status_of(probe, "liveness") == SERVING
    await server.health.set_ready(True)
    await server.health.set_ready(False)
    assert await status_of(probe, "liveness") == SERVING


async def test_readiness_may_be_told_before_the_start() -> None:
    server = build_server("127.0.0.1:0", services=[])
    await server.health.set_ready(True)
    async with server, aio.insecure_channel(server.address) as channel:
        assert await status_of(health_pb2_grpc.HealthStub(channel), "") == SERVING


@pytest.mark.parametrize("name", ["tasker.v1.TaskService", "grpc.health.v1.Health", "nonsense"])
async def test_what_is_not_served_is_not_found(probe: health_pb2_grpc.HealthStub, name: str) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await status_of(probe, name)
    assert caught.value.code() is StatusCode.NOT_FOUND


@pytest.mark.parametrize("name", READINESS_NAMES)
async def test_a_watcher_sees_readiness_flip(
    server: RpcServer, probe: health_pb2_grpc.HealthStub, name: str
) -> None:
    watch = probe.Watch(health_pb2.HealthCheckRequest(service=name), timeout=30)
    assert (await watch.read()).status == NOT_SERVING
    for ready, status in [(True, SERVING), (False, NOT_SERVING), (True, SERVING)]:
        await server.health.set_ready(ready)
        assert (await watch.read()).status == status
    watch.cancel()


async def test_watchers_leave_room_for_other_calls(
    server: RpcServer, probe: health_pb2_grpc.HealthStub
) -> None:
    def watch() -> Any:
        return probe.Watch(health_pb2.HealthCheckRequest(), timeout=30)

    watches = [watch() for _ in range(MOST_PUBLIC_STREAMS_OF_CONNECTION)]
    for one in watches:
        assert (await one.read()).status == NOT_SERVING
    with pytest.raises(aio.AioRpcError, match="this connection has 50 streams open") as caught:
        await watch().read()
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert await status_of(probe, "liveness") == SERVING
    for one in watches:
        one.cancel()


async def test_a_server_has_so_many_watchers_on_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_PUBLIC_STREAMS", 2)
    async with build_server("127.0.0.1:0", services=[]) as server, AsyncExitStack() as stack:
        watches = []
        for number in range(3):
            options = [("grpc.use_local_subchannel_pool", 1)]  # a connection each
            channel = await stack.enter_async_context(aio.insecure_channel(server.address, options=options))
            watches.append(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()))
            if number < 2:
                assert (await watches[-1].read()).status == NOT_SERVING
        with pytest.raises(aio.AioRpcError, match="the service has 2 streams open"):
            await watches[-1].read()
        for watch in watches:
            watch.cancel()


async def test_a_watch_that_asks_nothing_counts(server: RpcServer, probe: health_pb2_grpc.HealthStub) -> None:
    async with aio.insecure_channel(server.address) as channel:
        untyped: Any = channel
        silent = untyped.stream_stream("/grpc.health.v1.Health/Watch")
        calls = [silent() for _ in range(MOST_PUBLIC_STREAMS_OF_CONNECTION + 1)]
        ends = [asyncio.create_task(call.read()) for call in calls]
        done, _ = await asyncio.wait(ends, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(aio.AioRpcError, match="this connection has 50 streams open"):
            await done.pop()
        for call in calls:
            call.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


async def test_a_watcher_of_an_unknown_name_is_told_so(probe: health_pb2_grpc.HealthStub) -> None:
    watch = probe.Watch(health_pb2.HealthCheckRequest(service="nonsense"), timeout=30)
    assert (await watch.read()).status == SERVICE_UNKNOWN
    watch.cancel()


async def test_a_server_that_stops_says_not_ready_first(
    server: RpcServer, probe: health_pb2_grpc.HealthStub
) -> None:
    await server.health.set_ready(True)
    watch = probe.Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert (await watch.read()).status == SERVING
    stopping = asyncio.create_task(server.stop(grace_seconds=30))
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()  # the last call in flight: nothing is left to wait for
    await asyncio.wait_for(stopping, 10)
