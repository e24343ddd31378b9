"""TaskService/GetTaskContext and GetTaskSummary: one task as a whole."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from tasker.domain.dlq import ResolutionStatus
from tasker.orchestration.engine.dlq import DlqEntries
from tasker.persistence.reading.dlq import DlqReader
from tasker.v1 import common_pb2, tasks_pb2
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, diamond
from tests.support.waiting import PATIENCE_SECONDS, until

HUGE = 2**60 + 1


async def context_of(client: Client, task_uuid: str) -> tasks_pb2.TaskContext:
    request = tasks_pb2.GetTaskContextRequest(task_uuid=task_uuid)
    return (await client.tasks.GetTaskContext(request, timeout=PATIENCE_SECONDS)).context


async def summary_of(client: Client, task_uuid: str) -> tasks_pb2.GetTaskSummaryResponse:
    request = tasks_pb2.GetTaskSummaryRequest(task_uuid=task_uuid)
    return await client.tasks.GetTaskSummary(request, timeout=PATIENCE_SECONDS)


async def test_a_context_has_inputs_outputs_and_both(client: Client, engine: Engine) -> None:
    await engine.register(chain(3))
    task_uuid = (await client.create(context_json=f'{{"s1": "input", "n": {HUGE}}}')).task_uuid
    for result in ({"v": HUGE}, [1, 2]):
        claimed = await until(engine.claim)
        await engine.succeed(*claimed, result=result)
    await until(engine.claim)
    context = await context_of(client, task_uuid)
    outputs = {"s1": {"v": HUGE}, "s2": [1, 2]}
    assert json.loads(context.inputs_json) == {"s1": "input", "n": HUGE}
    assert json.loads(context.outputs_json) == outputs
    assert MessageToDict(context.inputs) == {"s1": "input", "n": float(HUGE)}
    assert MessageToDict(context.outputs) == {"s1": {"v": float(HUGE)}, "s2": [1, 2]}
    assert MessageToDict(context.merged) == {"n": float(HUGE), "s1": {"v": float(HUGE)}, "s2": [1, 2]}
    whole = await client.tasks.GetTask(
        tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_context=True), timeout=PATIENCE_SECONDS
    )
    assert whole.context == context


async def test_the_context_of_a_task_that_has_none_is_there_all_the_same(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    context = await context_of(client, (await client.create()).task_uuid)
    for field in ("inputs", "outputs", "merged"):
        assert context.HasField(field)
        assert MessageToDict(getattr(context, field)) == {}
    assert (context.inputs_json, context.outputs_json) == ("{}", "{}")


async def test_a_summary_tells_the_task_its_template_and_its_steps(client: Client, engine: Engine) -> None:
    document = diamond(retry={"max_attempts": 5, "retryable": False})
    document["steps"][0]["retry"] = {"max_attempts": 2}
    await engine.register(document)
    created = await client.create(initiator="ada", source_system="web", reason="because")
    claimed = await engine.claim()
    await engine.succeed(*claimed)
    running = await until(engine.claim)
    summary = await summary_of(client, created.task_uuid)

    task, seen = await client.get(created.task_uuid), summary.task
    assert (seen.task_uuid, seen.namespace, seen.name, seen.version) == (
        task.task_uuid,
        "test",
        "workflow",
        "1.0.0",
    )
    assert (seen.initiator, seen.source_system, seen.reason) == ("ada", "web", "because")
    assert (seen.status, seen.correlation_id) == ("steps_in_process", task.correlation_id)
    assert (seen.total_steps, seen.pending_steps, seen.in_progress_steps) == (4, 1, 2)
    assert (seen.completed_steps, seen.failed_steps, seen.completion_percentage) == (1, 0, 25)
    assert (seen.health_status, seen.execution_status) == (task.health_status, task.execution_status)
    assert seen.recommended_action == task.recommended_action
    assert datetime.fromisoformat(seen.created_at).timestamp() == task.created_at.ToMicroseconds() / 1e6
    assert datetime.fromisoformat(seen.updated_at).timestamp() == task.updated_at.ToMicroseconds() / 1e6
    assert not seen.HasField("completed_at")

    template = {step.name: step for step in summary.template.steps}
    assert list(template) == ["start", "left", "right", "end"]
    assert list(template["end"].dependencies) == ["left", "right"]
    assert {(step.step_type, step.handler) for step in template.values()} == {("standard", "work")}
    assert (template["start"].retryable, template["start"].max_attempts) == (True, 2)
    assert (template["left"].retryable, template["left"].max_attempts) == (False, 5)

    steps, details = {step.name: step for step in summary.steps}, await client.list_steps(created.task_uuid)
    assert list(steps) == ["start", "left", "right", "end"]
    for name, step in steps.items():
        assert step.step_uuid == details[name].step_uuid
        assert (step.attempts, step.max_attempts) == (details[name].attempts, details[name].max_attempts)
        assert step.dependencies_satisfied == details[name].dependencies_satisfied
        assert step.retry_eligible == details[name].retry_eligible
        assert datetime.fromisoformat(step.created_at) >= datetime.fromisoformat(seen.created_at)
        assert step.HasField("last_attempted_at") == (name != "end")
        assert step.HasField("completed_at") == (name == "start")
        assert not step.HasField("error")
    states = {name: step.current_state for name, step in steps.items()}
    assert states == {"start": "complete", "left": "in_progress", "right": "in_progress", "end": "pending"}

    assert (summary.dlq.in_dlq, summary.dlq.HasField("dlq_reason")) == (False, False)
    assert not summary.dlq.HasField("resolution_status")
    path = f"/v1/tasks/{created.task_uuid}"
    assert summary.links == tasks_pb2.TaskSummaryLinks(
        task=path, steps=f"{path}/workflow_steps", dlq="/v1/dlq"
    )
    await engine.succeed(*running)
    await engine.succeed(*await until(engine.claim))
    await client.watch(created.task_uuid)
    done = (await summary_of(client, created.task_uuid)).task
    assert done.status == "complete"
    assert datetime.fromisoformat(done.completed_at) >= datetime.fromisoformat(done.created_at)


async def test_a_summary_tells_what_failed_and_whether_a_person_is_asked(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(1, retry={"max_attempts": 1}))
    task_uuid = (await client.create()).task_uuid
    error: dict[str, Any] = {
        "message": "x" * 600, "error_type": "payment_error", "retryable": True, "status_code": 402, "backtrace": ["l"],
    }  # fmt: skip
    metadata = {"error_code": "DECLINED", "context": {"exception_class": "CardDeclined"}}
    await engine.fail(*await engine.claim(), error=error, metadata=metadata)
    await until(lambda: _in_dlq(client, task_uuid))
    summary = await summary_of(client, task_uuid)
    (step,) = summary.steps
    assert step.current_state == "error"
    assert step.error == tasks_pb2.StepErrorSummary(
        error_type="payment_error", retryable=True, status_code=402, message="x" * 500, error_class="CardDeclined",
        error_code="DECLINED",
    )  # fmt: skip
    assert summary.task.failure == (await client.get(task_uuid)).failure
    assert (summary.task.status, summary.task.failed_steps) == ("blocked_by_failures", 1)
    assert summary.dlq == tasks_pb2.DlqSummaryInfo(
        in_dlq=True, dlq_reason="max_retries_exceeded", resolution_status="pending"
    )
    entry = await DlqReader(engine.database).newest_of(UUID(task_uuid))
    assert entry is not None
    closed = ResolutionStatus.MANUALLY_RESOLVED
    await DlqEntries(engine.database).update(entry.dlq_entry_uuid, resolution_status=closed)
    assert (await summary_of(client, task_uuid)).dlq == tasks_pb2.DlqSummaryInfo(
        in_dlq=False, dlq_reason="max_retries_exceeded", resolution_status="manually_resolved"
    )


async def _in_dlq(client: Client, task_uuid: str) -> bool:
    return (await summary_of(client, task_uuid)).dlq.in_dlq


async def test_a_summary_tells_when_a_step_is_tried_again(client: Client, engine: Engine) -> None:
    await engine.register(chain(1, retry={"backoff_base_ms": 60_000}))
    task_uuid = (await client.create()).task_uuid
    await engine.fail(*await engine.claim())

    async def waits() -> bool:
        return (await client.get(task_uuid)).state == common_pb2.TASK_STATE_WAITING_FOR_RETRY

    await until(waits)
    (step,) = (await summary_of(client, task_uuid)).steps
    due = (await client.list_steps(task_uuid))["s1"].next_retry_at
    assert datetime.fromisoformat(step.next_retry_at).timestamp() == due.ToMicroseconds() / 1e6


async def test_the_template_is_the_one_that_the_task_was_created_with(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    await engine.succeed(*await engine.claim())
    await client.watch(task_uuid)
    await engine.register(chain(2))  # the same version anew, which nobody uses any more
    assert [step.name for step in (await summary_of(client, task_uuid)).template.steps] == ["s1"]

    async def renewed() -> str | None:
        task = await client.create()
        return task.task_uuid if task.total_steps == 2 else None

    later = await until(renewed)
    assert [step.name for step in (await summary_of(client, later)).template.steps] == ["s1", "s2"]


@pytest.mark.parametrize("call", [context_of, summary_of])
async def test_an_unknown_task_is_not_found_and_a_bad_uuid_refused(client: Client, call: Any) -> None:
    unknown = str(uuid4())
    refusal = await refused(call(client, unknown))
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    assert refusal.facts == {"task_uuid": unknown}
    refusal = await refused(call(client, "7"))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"task_uuid"})
