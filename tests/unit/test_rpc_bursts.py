"""Many calls at once: each is served, or refused with a status that says so."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from grpc import StatusCode, aio

from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.server import ServerOptions, ServiceRegistration, build_server
from tasker.v1 import tasks_pb2, tasks_pb2_grpc
from tests.support.waiting import until

MANY = 4000


class Gate(tasks_pb2_grpc.TaskServiceServicer):
    """Answers once it is open."""

    def __init__(self) -> None:
        self.waiting = 0
        self.open = asyncio.Event()

    async def GetTask(
        self, request: tasks_pb2.GetTaskRequest, context: ServicerContext
    ) -> tasks_pb2.GetTaskResponse:
        self.waiting += 1
        await self.open.wait()
        return tasks_pb2.GetTaskResponse()


def served_by(gate: Gate) -> ServiceRegistration[Gate]:
    return ServiceRegistration(
        tasks_pb2.DESCRIPTOR.services_by_name["TaskService"],
        gate,
        tasks_pb2_grpc.add_TaskServiceServicer_to_server,
    )


async def outcome(stub: tasks_pb2_grpc.TaskServiceAsyncStub) -> StatusCode:
    try:
        await stub.GetTask(tasks_pb2.GetTaskRequest(), timeout=60)
    except aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


@pytest.mark.parametrize("channels", [1, 40])
async def test_thousands_of_calls_at_once_are_served(channels: int) -> None:
    gate = Gate()
    gate.open.set()
    async with build_server("127.0.0.1:0", services=[served_by(gate)]) as server:
        # Connections of their own, which channels with equal options would share.
        opened = [
            aio.insecure_channel(server.address, options=[("test.number", number)])
            for number in range(channels)
        ]
        await asyncio.gather(*(channel.channel_ready() for channel in opened))
        stubs = [tasks_pb2_grpc.TaskServiceStub(channel) for channel in opened]
        found = await asyncio.gather(*(outcome(stubs[number % channels]) for number in range(MANY)))
        await asyncio.gather(*(channel.close(None) for channel in opened))
    assert Counter(found) == {StatusCode.OK: MANY}


async def test_what_is_too_much_is_refused_and_the_rest_served() -> None:
    gate = Gate()
    options = ServerOptions(max_concurrent_calls=20)
    async with (
        build_server("127.0.0.1:0", services=[served_by(gate)], options=options) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        taken = [asyncio.create_task(outcome(stub)) for _ in range(20)]
        await until(lambda: _reached(gate, 20))
        assert Counter([await outcome(stub) for _ in range(20)]) == {StatusCode.RESOURCE_EXHAUSTED: 20}
        gate.open.set()
        assert Counter(await asyncio.gather(*taken)) == {StatusCode.OK: 20}
        assert await outcome(stub) is StatusCode.OK


async def _reached(gate: Gate, count: int) -> bool:
    return gate.waiting >= count
