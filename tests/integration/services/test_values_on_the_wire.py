"""What becomes of JSON on its way through a Struct and through text, from a request to a result."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import NullValue, Struct, Value
from grpc import StatusCode, aio

from tasker.orchestration.service import OrchestrationService
from tasker.v1 import tasks_pb2, tasks_pb2_grpc
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS

BIG = 2**53 + 1


async def all_of(client: Client, task_uuid: str) -> tasks_pb2.GetTaskResponse:
    request = tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_steps=True, include_context=True)
    return await client.tasks.GetTask(request, timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("result", "rounded"),
    [
        ([1, "two", None, {"three": [3]}], [1, "two", None, {"three": [3]}]),
        ([BIG, -BIG, 10**20], [2.0**53, -(2.0**53), 1e20]),
        (BIG, 2.0**53),
        ([], []),
        ("text", "text"),
        (True, True),
    ],
)
async def test_a_result_that_is_no_object_comes_whole(
    client: Client, engine: Engine, result: Any, rounded: Any
) -> None:
    await engine.register(chain(1))
    task = await client.create()
    await engine.succeed(*await engine.claim(), result=result)
    await engine.process()
    got = await all_of(client, task.task_uuid)
    (step,) = got.steps
    assert json.loads(step.results_json)["result"] == result
    assert MessageToDict(step.results)["result"] == rounded
    assert MessageToDict(got.context)["outputs"] == {"s1": rounded}


async def test_integers_above_two_to_the_53_are_exact_as_text_only(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    exact = await client.create(context_json=json.dumps({"id": BIG}))
    (claimed,) = await engine.claim()
    assert claimed.context == {"id": BIG}
    assert json.loads(exact.context_json) == {"id": BIG}
    assert exact.context["id"] == 2**53
    rounded = await client.create(context={"id": float(2**53)})
    assert json.loads(rounded.context_json) == {"id": 2**53}


async def test_a_value_without_a_kind_is_null(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    context = Struct(
        fields={"unset": Value(), "null": Value(null_value=NullValue.NULL_VALUE), "list": Value()}
    )
    context.fields["list"].list_value.values.add()
    task = await client.create(context=context)
    assert json.loads(task.context_json) == {"unset": None, "null": None, "list": [None]}


async def test_an_absent_context_is_an_empty_one(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    ways: tuple[dict[str, Any], ...] = ({}, {"context": {}}, {"context_json": "{}"})
    for given in ways:
        task = await client.create(**given)
        assert (task.context_json, task.HasField("context")) == ("{}", True)


async def test_a_compressed_call_is_answered(orchestration: OrchestrationService, engine: Engine) -> None:
    await engine.register(chain(1))
    texts = ["x" * 5_000] * 20
    async with aio.insecure_channel(orchestration.address, compression=grpc.Compression.Gzip) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        request = tasks_pb2.CreateTaskRequest(
            namespace="test", name="workflow", context_json=json.dumps({"texts": texts})
        )
        answer = await stub.CreateTask(request, timeout=PATIENCE_SECONDS)
    assert json.loads(answer.task.context_json) == {"texts": texts}


async def test_five_mebibytes_are_too_much(client: Client) -> None:
    request = tasks_pb2.GetTaskRequest(task_uuid="x" * 5 * 1024 * 1024)
    refusal = await refused(client.tasks.GetTask(request, timeout=PATIENCE_SECONDS))
    assert refusal.code is StatusCode.RESOURCE_EXHAUSTED
