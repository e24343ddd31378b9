"""TaskService/GetTask and StepService/ListSteps: what a client sees of a task as it moves."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from tasker.v1 import common_pb2, steps_pb2, tasks_pb2
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, diamond
from tests.support.waiting import PATIENCE_SECONDS, until


async def list_steps(client: Client, task_uuid: str) -> steps_pb2.ListStepsResponse:
    return await client.steps.ListSteps(
        steps_pb2.ListStepsRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS
    )


async def ready(
    client: Client, task_uuid: str, step: str, state: common_pb2.StepState.ValueType
) -> tasks_pb2.Step:
    """Wait for a step's state and return the step."""

    async def arrived() -> tasks_pb2.Step | None:
        found = (await client.list_steps(task_uuid))[step]
        return found if found.state == state else None

    found = await until(arrived, what=f"{step} {common_pb2.StepState.Name(state)}")
    assert isinstance(found, tasks_pb2.Step)
    return found


async def test_an_unknown_task_is_not_found(client: Client) -> None:
    unknown = str(uuid4())
    for call in (
        client.tasks.GetTask(tasks_pb2.GetTaskRequest(task_uuid=unknown), timeout=PATIENCE_SECONDS),
        client.steps.ListSteps(steps_pb2.ListStepsRequest(task_uuid=unknown), timeout=PATIENCE_SECONDS),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
        assert refusal.facts == {"task_uuid": unknown}
        assert unknown in refusal.message


async def test_a_bad_uuid_is_an_invalid_argument(client: Client) -> None:
    for bad in ("", "7", "0197b7f2-7c1e-7d3a-9c55-3f0f6d1a2b4", "' OR true --"):
        for call in (
            client.tasks.GetTask(tasks_pb2.GetTaskRequest(task_uuid=bad), timeout=PATIENCE_SECONDS),
            client.steps.ListSteps(steps_pb2.ListStepsRequest(task_uuid=bad), timeout=PATIENCE_SECONDS),
        ):
            refusal = await refused(call)
            assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"task_uuid"})


async def test_steps_and_context_come_on_request(client: Client, engine: Engine) -> None:
    await engine.register(diamond())
    task = await client.create(context={"n": 6, "left": "input"})
    bare = await client.tasks.GetTask(
        tasks_pb2.GetTaskRequest(task_uuid=task.task_uuid), timeout=PATIENCE_SECONDS
    )
    assert (len(bare.steps), bare.HasField("context")) == (0, False)

    stream = client.stream(task.task_uuid)
    for result in ({"v": 1}, {"v": 2}, {"v": 3}):
        claimed = await until(engine.claim)
        await engine.succeed(*claimed, result=result)
    assert (await client.watch(task.task_uuid))[-1].task_state == common_pb2.TASK_STATE_COMPLETE
    stream.cancel()

    full = await client.tasks.GetTask(
        tasks_pb2.GetTaskRequest(task_uuid=task.task_uuid, include_steps=True, include_context=True),
        timeout=PATIENCE_SECONDS,
    )
    assert {step.name for step in full.steps} == {"start", "left", "right", "end"}
    outputs = {"start": {"v": 1}, "left": {"v": 2}, "right": {"v": 2}, "end": {"v": 3}}
    assert MessageToDict(full.context.inputs) == {"n": 6, "left": "input"}
    assert MessageToDict(full.context.outputs) == outputs
    assert MessageToDict(full.context.merged) == {"n": 6} | outputs
    assert full.task.completed_at.ToDatetime() >= full.task.created_at.ToDatetime()
    assert (full.task.completion_percentage, full.task.execution_status) == (100, "all_complete")


async def test_the_counts_follow_the_steps(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    task_uuid = (await client.create()).task_uuid
    (claimed,) = await engine.claim()
    task = await client.get(task_uuid)
    assert (task.total_steps, task.pending_steps, task.in_progress_steps) == (2, 1, 1)
    await engine.succeed(claimed)
    await ready(client, task_uuid, "s1", common_pb2.STEP_STATE_COMPLETE)
    task = await client.get(task_uuid)
    assert (task.completed_steps, task.completion_percentage, task.in_progress_steps) == (1, 50, 0)
    await engine.fail(*await engine.claim(), retryable=False)
    await ready(client, task_uuid, "s2", common_pb2.STEP_STATE_ERROR)
    task = await client.get(task_uuid)
    assert (task.failed_steps, task.completed_steps) == (1, 1)
    assert (task.execution_status, task.recommended_action) == ("blocked_by_failures", "handle_failures")
    assert (task.health_status, task.HasField("completed_at")) == ("blocked", False)
    assert task.state == common_pb2.TASK_STATE_BLOCKED_BY_FAILURES


async def test_a_step_shows_its_readiness_and_its_result(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    task_uuid = (await client.create()).task_uuid
    response = await list_steps(client, task_uuid)
    assert [step.name for step in response.steps] == ["s1", "s2"]
    assert (response.pagination.total, response.pagination.count) == (2, 2)
    first, second = response.steps
    assert (first.dependencies_satisfied, first.total_parents, first.completed_parents) == (True, 0, 0)
    assert (second.dependencies_satisfied, second.total_parents, second.completed_parents) == (False, 1, 0)
    assert (first.attempts, first.max_attempts, first.retry_eligible) == (0, 3, True)
    assert not first.HasField("results")
    assert not first.HasField("last_attempted_at")
    assert UUID(first.task_uuid) == UUID(task_uuid)

    big = 2**60 + 1
    await engine.succeed(*await engine.claim(), result={"id": big, "list": [1, None]})
    done = await ready(client, task_uuid, "s1", common_pb2.STEP_STATE_COMPLETE)
    assert json.loads(done.results_json)["result"] == {
        "id": big,
        "list": [1, None],
    }
    envelope = MessageToDict(done.results)
    assert (envelope["success"], envelope["status"], envelope["error"]) == (True, "completed", None)
    assert envelope["result"]["id"] == float(big)
    assert (done.attempts, done.HasField("completed_at"), done.HasField("last_attempted_at")) == (
        1,
        True,
        True,
    )
    assert not done.ready_for_execution


async def test_a_step_in_backoff_says_until_when(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    await engine.fail(*await engine.claim())
    step = await ready(client, task_uuid, "s1", common_pb2.STEP_STATE_WAITING_FOR_RETRY)
    assert (step.backoff_request_seconds, step.ready_for_execution, step.retry_eligible) in (
        (1, False, True),
        (2, False, True),  # with jitter
    )
    assert step.next_retry_at.ToDatetime() > step.last_failure_at.ToDatetime()
    task = await client.get(task_uuid)
    assert (task.state, task.health_status) == (common_pb2.TASK_STATE_WAITING_FOR_RETRY, "recovering")
    assert task.execution_status == "waiting_for_dependencies"


async def test_a_result_that_is_no_object_is_kept(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    task_uuid = (await client.create()).task_uuid
    await engine.succeed(*await engine.claim(), result=[1, 2])
    done = await ready(client, task_uuid, "s1", common_pb2.STEP_STATE_COMPLETE)
    assert json.loads(done.results_json)["result"] == [1, 2]
    assert MessageToDict(done.results)["result"] == [1, 2]
    (second,) = await engine.claim()
    assert second.dependencies == {"s1": [1, 2]}


async def test_what_clients_insist_on_is_filled(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task = await client.create()
    got = (
        await client.tasks.GetTask(
            tasks_pb2.GetTaskRequest(task_uuid=task.task_uuid, include_context=True), timeout=PATIENCE_SECONDS
        )
    ).task
    UUID(got.correlation_id)
    for name in ("created_at", "updated_at"):
        assert getattr(got, name).seconds > 1_600_000_000
    assert got.HasField("context")
    (step,) = (await list_steps(client, task.task_uuid)).steps
    assert step.created_at.seconds > 1_600_000_000
    assert step.updated_at.seconds > 1_600_000_000
