"""Calls whose request is none, or none that can be read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from google.protobuf.struct_pb2 import Struct
from grpc import StatusCode, aio

from tasker.rpc.undecodable import nested_too_deeply
from tasker.v1 import tasks_pb2
from tests.support.clients import Refusal, refused
from tests.unit.test_rpc_errors import channel_to, raising

GET_TASK = "/tasker.v1.TaskService/GetTask"
STREAM = "/tasker.v1.TaskService/StreamTaskStatus"


def dig(value: Struct, levels: int) -> None:
    """Nest so many objects in each other, one of them in an array."""
    for level in range(levels):
        value = (
            value.get_or_create_list("list").add_struct() if level == 3 else value.get_or_create_struct("a")
        )
    value["leaf"] = 1


def request(**levels: int) -> bytes:
    """Return a request to create a task, with such keys in its context, nested so deeply."""
    message = tasks_pb2.CreateTaskRequest(name="n")
    for key, depth in levels.items():
        dig(message.context.get_or_create_struct(key), depth)
    return message.SerializeToString()


async def nothing() -> AsyncIterator[bytes]:
    messages: tuple[bytes, ...] = ()
    for message in messages:
        yield message


@pytest.mark.parametrize("method", [GET_TASK, STREAM])
async def test_a_call_without_a_message_is_answered(method: str) -> None:
    async with channel_to(raising(AssertionError("not reached"))) as channel:
        call = channel.stream_stream(method, bytes, bytes)(nothing(), timeout=10)
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
    refusal = Refusal.of(caught.value)
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.message == f"the call ended without a request; send the message that {method} takes"


async def test_what_is_nested_too_deeply_is_told_by_its_path() -> None:
    data = request(flat=3, deep=40, other=2)
    async with channel_to(raising(AssertionError("not reached"))) as channel:
        refusal = await refused(channel.unary_unary("/tasker.v1.TaskService/CreateTask", bytes, bytes)(data))
    assert refusal.code is StatusCode.INVALID_ARGUMENT
    ((field, problem),) = refusal.violations
    assert field.startswith("context.deep.a.a.a.list.a.")
    assert problem.startswith("is nested deeper than a message can be")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a\x02\xff\xfe",
        b"\x0a\x7f",
        b"\xff" * 50,
        b"\x0b\x0c",
        b"\x22\x00" * 30_000,
        request(deep=20),
    ],
    ids=[
        "nothing",
        "a text that is none",
        "a field cut off",
        "no number",
        "a group",
        "too much",
        "not too deep",
    ],
)
def test_bytes_that_are_wrong_in_other_ways_are_not_called_deep(data: bytes) -> None:
    assert nested_too_deeply(data, tasks_pb2.CreateTaskRequest.DESCRIPTOR) is None
