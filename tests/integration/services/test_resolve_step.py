"""StepService/ResolveStep: what operators do to a step, over a real channel."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.struct_pb2 import Struct
from grpc import StatusCode, aio

from tasker.v1 import common_pb2, steps_pb2, tasks_pb2
from tests.support.clients import Client, Refusal, refused
from tests.support.dynamic import workflow
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS, until

RESET = steps_pb2.STEP_MANUAL_ACTION_TYPE_RESET_FOR_RETRY
RESOLVE = steps_pb2.STEP_MANUAL_ACTION_TYPE_RESOLVE_MANUALLY
COMPLETE = steps_pb2.STEP_MANUAL_ACTION_TYPE_COMPLETE_MANUALLY
ACTIONS = [RESET, RESOLVE, COMPLETE]
BY = {"performed_by": "ada", "reason": "the bank is back"}
HUGE = 2**60 + 1


def struct(value: dict[str, Any]) -> Struct:
    message = Struct()
    message.update(value)
    return message


async def act(client: Client, step: tasks_pb2.Step, action: int, **fields: Any) -> tasks_pb2.Step:
    given: dict[str, Any] = {"task_uuid": step.task_uuid, "step_uuid": step.step_uuid, "action_type": action}
    request = steps_pb2.ResolveStepRequest(**(given | BY | fields))
    answer = await client.steps.ResolveStep(request, timeout=PATIENCE_SECONDS)
    return answer.step


async def blocked(client: Client, engine: Engine) -> tasks_pb2.Step:
    """Create a task whose first step failed for good; return that step."""
    await engine.register(chain(2))
    task_uuid = (await client.create()).task_uuid
    await engine.fail(*await engine.claim(), retryable=False)
    return await in_state(client, task_uuid, "s1", common_pb2.STEP_STATE_ERROR)


async def in_state(
    client: Client, task_uuid: str, name: str, state: common_pb2.StepState.ValueType
) -> tasks_pb2.Step:
    async def arrived() -> tasks_pb2.Step | None:
        step = (await client.list_steps(task_uuid))[name]
        return step if step.state == state else None

    found = await until(arrived, what=f"{name} {common_pb2.StepState.Name(state)}")
    assert isinstance(found, tasks_pb2.Step)
    return found


async def metadata_of(engine: Engine, step: tasks_pb2.Step) -> Any:
    """Return what the last transition of a step says that a person made."""
    ((metadata,),) = await engine.sql(
        "SELECT metadata FROM tasker.workflow_step_transitions WHERE step_uuid = %s AND metadata ? 'performed_by'",
        step.step_uuid,
    )
    return metadata


# The three actions


async def test_a_reset_step_runs_again_and_its_task_goes_on(client: Client, engine: Engine) -> None:
    failed = await blocked(client, engine)
    assert (await client.get(failed.task_uuid)).state == common_pb2.TASK_STATE_BLOCKED_BY_FAILURES
    step = await act(client, failed, RESET)
    assert (step.step_uuid, step.state) == (failed.step_uuid, common_pb2.STEP_STATE_ENQUEUED)
    assert (step.attempts, step.retry_eligible) == (0, True)
    assert not step.HasField("results")
    assert not step.HasField("failure")
    assert await metadata_of(engine, failed) == {"event": "reset_for_retry"} | BY
    task = await client.get(failed.task_uuid)
    assert (task.state, task.failed_steps) == (common_pb2.TASK_STATE_STEPS_IN_PROCESS, 0)
    assert not task.HasField("failure")
    for _ in range(2):
        await engine.succeed(*await until(engine.claim))
    assert (await client.watch(task.task_uuid))[-1].task_state == common_pb2.TASK_STATE_COMPLETE


async def test_a_resolved_step_lets_its_children_run_without_a_result(client: Client, engine: Engine) -> None:
    failed = await blocked(client, engine)
    step = await act(client, failed, RESOLVE)
    assert step.state == common_pb2.STEP_STATE_RESOLVED_MANUALLY
    assert step.HasField("completed_at")
    assert await metadata_of(engine, failed) == {"event": "resolve_manually"} | BY
    (second,) = await engine.claim()
    assert (second.name, second.dependencies) == ("s2", {})
    await engine.succeed(second)
    assert (await client.watch(step.task_uuid))[-1].task_state == common_pb2.TASK_STATE_COMPLETE


async def test_a_completed_step_has_the_result_that_its_children_see(client: Client, engine: Engine) -> None:
    failed = await blocked(client, engine)
    step = await act(
        client, failed, COMPLETE, result=struct({"paid": 7}), metadata=struct({"ticket": "T-1", "completed_by": "x"})
    )  # fmt: skip
    assert (step.state, step.HasField("failure")) == (common_pb2.STEP_STATE_COMPLETE, False)
    envelope = json.loads(step.results_json)
    assert (envelope["success"], envelope["result"]) == (True, {"paid": 7})
    assert envelope["metadata"]["custom"] == {
        "ticket": "T-1", "manually_completed": True, "completed_by": "ada", "completion_reason": "the bank is back",
    }  # fmt: skip
    assert await metadata_of(engine, failed) == {"event": "complete_manually"} | BY
    (second,) = await engine.claim()
    assert second.dependencies == {"s1": {"paid": 7}}


@pytest.mark.parametrize("action", [RESOLVE, COMPLETE])
async def test_a_step_that_has_not_failed_may_be_ended_too(
    client: Client, engine: Engine, action: int
) -> None:
    await engine.register(chain(2))
    task_uuid = (await client.create()).task_uuid
    (running,) = await engine.claim()
    steps = await client.list_steps(task_uuid)
    given = {"result_json": "1"} if action == COMPLETE else {}
    for name in ("s2", "s1"):  # pending, then in progress
        ended = await act(client, steps[name], action, **given)
        assert ended.state in (common_pb2.STEP_STATE_RESOLVED_MANUALLY, common_pb2.STEP_STATE_COMPLETE)
    assert await engine.succeed(running) == set()  # who ran it comes too late
    assert (await client.watch(task_uuid))[-1].task_state == common_pb2.TASK_STATE_COMPLETE


# What the result may be


@pytest.mark.parametrize("value", [{"n": HUGE}, [1, {"a": None}], "paid", 7, 1.5, True, None, {}])
async def test_a_result_as_text_is_taken_as_it_is(client: Client, engine: Engine, value: Any) -> None:
    failed = await blocked(client, engine)
    step = await act(client, failed, COMPLETE, result=struct({"other": 1}), result_json=json.dumps(value))
    assert json.loads(step.results_json)["result"] == value
    (second,) = await engine.claim()
    assert second.dependencies == {"s1": value}


@pytest.mark.parametrize("value", [{"paid": 7.0}, [1.0, "a"], "paid", None])
async def test_what_published_clients_wrap_is_unwrapped(client: Client, engine: Engine, value: Any) -> None:
    failed = await blocked(client, engine)
    step = await act(
        client, failed, COMPLETE, result=struct({"result": value, "metadata": {"ticket": "T-1"}})
    )
    envelope = json.loads(step.results_json)
    assert envelope["result"] == value
    assert envelope["metadata"]["custom"]["ticket"] == "T-1"


@pytest.mark.parametrize(
    ("result", "fields"),
    [
        ({"result": 1}, {}),
        ({"result": 1, "metadata": {}, "more": 1}, {}),
        ({"result": 1, "metadata": {"a": 1}}, {"metadata": struct({"ticket": "T-2"})}),
        ({"result": 1, "metadata": {"a": 1}}, {"result_json": '{"result": 1, "metadata": {"a": 1}}'}),
    ],
)
async def test_nothing_else_is_unwrapped(
    client: Client, engine: Engine, result: dict[str, Any], fields: dict[str, Any]
) -> None:
    failed = await blocked(client, engine)
    step = await act(client, failed, COMPLETE, result=struct(result), **fields)
    assert json.loads(step.results_json)["result"] == result


# What is refused, and writes nothing


async def refusal_of(
    client: Client, engine: Engine, step: tasks_pb2.Step, action: int, **fields: Any
) -> Refusal:
    """Return how an action is refused, having made sure that it changed nothing."""
    before = await engine.sql("SELECT count(*), max(xid) FROM tasker.workflow_step_transitions")
    refusal = await refused(act(client, step, action, **fields))
    assert await engine.sql("SELECT count(*), max(xid) FROM tasker.workflow_step_transitions") == before
    return refusal


async def test_every_mistake_is_told_at_once(client: Client, engine: Engine) -> None:
    failed = await blocked(client, engine)
    refusal = await refusal_of(
        client, engine, failed, 0, task_uuid="7", step_uuid="8", performed_by=" ", reason="x" * 501
    )
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.fields == {"task_uuid", "step_uuid", "action_type", "performed_by", "reason"}
    assert "1 RESET_FOR_RETRY, 2 RESOLVE_MANUALLY, 3 COMPLETE_MANUALLY" in refusal.message


@pytest.mark.parametrize(
    ("action", "fields", "wrong"),
    [
        (0, {}, {"action_type"}),
        (4, {}, {"action_type"}),
        (-1, {}, {"action_type"}),
        *((action, {"performed_by": ""}, {"performed_by"}) for action in (RESET, RESOLVE)),
        *((action, {"reason": ""}, {"reason"}) for action in (RESET, RESOLVE)),
        (RESET, {"performed_by": "x" * 256}, {"performed_by"}),
        (RESET, {"reason": "a\0b"}, {"reason"}),
        (COMPLETE, {}, {"result"}),
        (COMPLETE, {"metadata": struct({"a": 1}), "performed_by": ""}, {"result", "performed_by"}),
        (COMPLETE, {"result_json": "{"}, {"result_json"}),
        (COMPLETE, {"result": struct({"n": float("nan")})}, {"result.n"}),
        (COMPLETE, {"result_json": "NaN"}, {"result"}),
        (COMPLETE, {"result_json": '"a\\u0000b"'}, {"result"}),
        (COMPLETE, {"result_json": json.dumps("x" * 1024 * 1024)}, {"result"}),
        (RESET, {"result": struct({})}, {"result"}),
        (RESOLVE, {"result_json": "1", "metadata": struct({})}, {"result_json", "metadata"}),
    ],
)
async def test_a_bad_request_names_its_field(
    client: Client, engine: Engine, action: int, fields: dict[str, Any], wrong: set[str]
) -> None:
    failed = await blocked(client, engine)
    refusal = await refusal_of(client, engine, failed, action, **fields)
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, wrong)


@pytest.mark.parametrize("action", ACTIONS)
async def test_what_is_not_there_is_not_found(client: Client, engine: Engine, action: int) -> None:
    failed = await blocked(client, engine)
    other = (await client.create()).task_uuid
    given = {"result_json": "1"} if action == COMPLETE else {}
    nobody = str(uuid4())
    refusal = await refusal_of(client, engine, failed, action, step_uuid=nobody, **given)
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "STEP_NOT_FOUND")
    refusal = await refusal_of(client, engine, failed, action, task_uuid=nobody, step_uuid=nobody, **given)
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    refusal = await refusal_of(client, engine, failed, action, task_uuid=other, **given)
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"step_uuid"})
    assert "belongs to another task" in refusal.message


async def test_a_state_that_does_not_allow_it_is_an_invalid_argument(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    task_uuid = (await client.create()).task_uuid
    await engine.succeed(*await engine.claim())
    first = await in_state(client, task_uuid, "s1", common_pb2.STEP_STATE_COMPLETE)
    second = (await client.list_steps(task_uuid))["s2"]
    for step, action in ((first, RESET), (first, RESOLVE), (first, COMPLETE), (second, RESET)):
        given = {"result_json": "1"} if action == COMPLETE else {}
        refusal = await refusal_of(client, engine, step, action, **given)
        assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "STEP_TRANSITION_NOT_ALLOWED")
        assert refusal.facts["state"] in ("complete", "enqueued")


async def test_a_task_that_is_over_for_good_refuses(client: Client, engine: Engine) -> None:
    failed = await blocked(client, engine)
    await client.tasks.CancelTask(tasks_pb2.CancelTaskRequest(task_uuid=failed.task_uuid), timeout=5)
    for action in ACTIONS:
        given = {"result_json": "1"} if action == COMPLETE else {}
        refusal = await refusal_of(client, engine, failed, action, **given)
        assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "STEP_TRANSITION_NOT_ALLOWED")
        assert "cancelled" in refusal.message


async def test_a_result_that_is_no_outcome_is_refused(client: Client, engine: Engine) -> None:
    await engine.register(workflow("begin", "choose: decision < begin", "yes < choose", "no < choose"))
    choose = (await client.list_steps((await client.create()).task_uuid))["choose"]
    refusal = await refusal_of(client, engine, choose, COMPLETE, result_json='{"maybe": true}')
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"result"})


async def test_of_calls_at_once_one_wins(client: Client, engine: Engine) -> None:
    failed = await blocked(client, engine)
    answers = await asyncio.gather(
        *(act(client, failed, RESET) for _ in range(5)),
        *(act(client, failed, RESOLVE) for _ in range(5)),
        return_exceptions=True,
    )
    won = [answer for answer in answers if isinstance(answer, tasks_pb2.Step)]
    assert 1 <= len(won) <= 2  # a step that was reset may still be resolved, once
    lost = [answer.code() for answer in answers if isinstance(answer, aio.AioRpcError)]
    assert lost == [StatusCode.INVALID_ARGUMENT] * (10 - len(won))
