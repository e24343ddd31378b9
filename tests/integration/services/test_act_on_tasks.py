"""TaskService/CancelTask, and StepService/GetStep."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from grpc import StatusCode

from tasker.v1 import common_pb2, steps_pb2, tasks_pb2
from tests.support import clients
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, diamond
from tests.support.waiting import PATIENCE_SECONDS


async def cancel(client: Client, task_uuid: str, **fields: Any) -> tasks_pb2.CancelTaskResponse:
    return await client.tasks.CancelTask(
        tasks_pb2.CancelTaskRequest(task_uuid=task_uuid, **fields), timeout=PATIENCE_SECONDS
    )


async def get_step(client: Client, task_uuid: str, step_uuid: str) -> tasks_pb2.Step:
    request = steps_pb2.GetStepRequest(task_uuid=task_uuid, step_uuid=step_uuid)
    return (await client.steps.GetStep(request, timeout=PATIENCE_SECONDS)).step


async def test_a_cancelled_task_comes_back(client: Client, engine: Engine) -> None:
    await engine.register(chain(3))
    task = (await client.create()).task_uuid
    await engine.succeed(*await engine.claim())
    await engine.process()
    (running,) = await engine.claim()
    stream = client.stream(task)
    response = await cancel(client, task, reason="wrong order", requested_by="anna")
    assert (response.success, response.HasField("message")) == (True, False)
    assert response.task == await client.get(task)
    assert response.task.state == common_pb2.TASK_STATE_CANCELLED
    assert (response.task.pending_steps, response.task.in_progress_steps) == (0, 0)
    assert (response.task.completed_steps, response.task.total_steps) == (1, 3)
    assert not response.task.HasField("completed_at")
    last = [update async for update in stream][-1]
    assert last.update_type == clients.Update.UPDATE_TYPE_TASK_ERROR
    ((metadata,),) = await engine.sql(
        "SELECT metadata FROM tasker.task_transitions WHERE task_uuid = %s AND to_state = 'cancelled'",
        UUID(task),
    )
    assert (metadata["reason"], metadata["requested_by"]) == ("wrong order", "anna")
    assert await engine.succeed(running) == set()
    assert await engine.claim() == []


async def test_a_second_cancel_is_harmless(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task = (await client.create()).task_uuid
    first = await cancel(client, task)
    again = await cancel(client, task)
    assert (again.success, again.task) == (False, first.task)
    assert "cancelled" in again.message


async def test_a_complete_task_stays_complete(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task = (await client.create()).task_uuid
    await engine.succeed(*await engine.claim())
    await client.watch(task)
    response = await cancel(client, task)
    assert (response.success, response.task.state) == (False, common_pb2.TASK_STATE_COMPLETE)
    assert "complete" in response.message


async def test_what_cannot_be_cancelled_is_refused(client: Client, engine: Engine) -> None:
    unknown = str(uuid4())
    refusal = await refused(cancel(client, unknown))
    assert (refusal.code, refusal.facts) == (StatusCode.NOT_FOUND, {"task_uuid": unknown})
    assert (await refused(cancel(client, "7"))).fields == {"task_uuid"}
    await engine.register(chain(1))
    task = (await client.create()).task_uuid
    refusal = await refused(cancel(client, task, reason="x" * 501, requested_by="nul\0"))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"reason", "requested_by"})
    assert (await client.get(task)).state == common_pb2.TASK_STATE_STEPS_IN_PROCESS


async def test_a_step_by_its_uuid_is_the_one_of_the_list(client: Client, engine: Engine) -> None:
    await engine.register(diamond())
    task = (await client.create()).task_uuid
    await engine.succeed(*await engine.claim(), result={"n": 2**60})
    await engine.process()
    for step in (await client.list_steps(task)).values():
        assert await get_step(client, task, step.step_uuid) == step
    assert (await get_step(client, task, (await client.list_steps(task))["start"].step_uuid)).results_json


async def test_a_step_of_another_task_is_an_invalid_argument(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    tasks = [(await client.create()).task_uuid for _ in range(5)]
    for step in (await client.list_steps(tasks[3])).values():
        for other in (tasks[0], tasks[4], str(uuid4())):
            refusal = await refused(get_step(client, other, step.step_uuid))
            assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"step_uuid"})
            assert "belongs to another task" in refusal.message
            assert tasks[3] not in refusal.message  # one is not told of tasks one did not ask for


async def test_an_unknown_step_is_not_found(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    task = (await client.create()).task_uuid
    for unknown in (
        str(uuid4()),
        "00000000-0000-0000-0000-000000000000",
        task,
        "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12,
    ):
        refusal = await refused(get_step(client, task, unknown))
        assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "STEP_NOT_FOUND")
        assert refusal.facts == {"task_uuid": task, "step_uuid": unknown}
    refusal = await refused(get_step(client, str(uuid4()), str(uuid4())))
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    assert (await refused(get_step(client, "7", task))).fields == {"task_uuid"}
    assert (await refused(get_step(client, task, "7"))).fields == {"step_uuid"}
