"""StepService/GetStepAudit: what workers submitted for a step."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from tasker.v1 import common_pb2, steps_pb2, tasks_pb2
from tests.support.clients import Client, Refusal, refused
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS, until

Page = common_pb2.PaginationRequest
State = common_pb2.StepState
HUGE = 2**60 + 1
BY = {"performed_by": "ada", "reason": "again"}


async def audit(
    client: Client, step: tasks_pb2.Step, page: Page | None = None, **fields: Any
) -> steps_pb2.GetStepAuditResponse:
    given = {"task_uuid": step.task_uuid, "step_uuid": step.step_uuid} | fields
    request = steps_pb2.GetStepAuditRequest(**given, pagination=page)
    return await client.steps.GetStepAudit(request, timeout=PATIENCE_SECONDS)


async def attempted(client: Client, engine: Engine, *results: object, **document: Any) -> tasks_pb2.Step:
    """Create a task of one step, attempted with these results, an Exception for a failure; return the step."""
    await engine.register(chain(1, **document))
    task_uuid = (await client.create()).task_uuid
    for number, result in enumerate(results, 1):
        claimed = await until(engine.claim)
        if isinstance(result, Exception):
            await engine.fail(*claimed, retryable=True)
        else:
            await engine.succeed(*claimed, result=result)
        await until(lambda: _settled(client, task_uuid))
        if number < len(results):
            await engine.operators.reset_for_retry(UUID(task_uuid), claimed[0].step_uuid, **BY)
    return (await client.list_steps(task_uuid))["s1"]


async def _settled(client: Client, task_uuid: str) -> bool:
    step = (await client.list_steps(task_uuid))["s1"]
    return step.state in (State.STEP_STATE_ERROR, State.STEP_STATE_COMPLETE)


ONCE: dict[str, Any] = {"retry": {"max_attempts": 1}}


async def test_every_result_is_there_newest_first(client: Client, engine: Engine) -> None:
    step = await attempted(client, engine, ValueError(), ValueError(), {"n": HUGE}, **ONCE)
    answer = await audit(client, step)
    new, middle, old = answer.audit_records
    assert [record.success for record in answer.audit_records] == [True, False, False]
    assert (answer.pagination.total, answer.pagination.count, answer.pagination.has_more) == (3, 3, False)
    for record in answer.audit_records:
        assert (record.task_uuid, record.step_uuid, record.step_name) == (
            step.task_uuid,
            step.step_uuid,
            "s1",
        )
        assert UUID(record.worker_uuid) == engine.worker_uuid
        assert (record.execution_time_ms, record.attempt) == (1, 1)
        assert record.from_state == State.STEP_STATE_IN_PROGRESS
        assert record.correlation_id == (await client.get(step.task_uuid)).correlation_id
    assert new.recorded_at.ToDatetime() > middle.recorded_at.ToDatetime() > old.recorded_at.ToDatetime()
    assert new.to_state == State.STEP_STATE_ENQUEUED_FOR_ORCHESTRATION
    assert old.to_state == State.STEP_STATE_ENQUEUED_AS_ERROR_FOR_ORCHESTRATION
    assert json.loads(new.result_json) == {"n": HUGE}
    assert MessageToDict(new.result) == {"n": float(HUGE)}
    assert not new.HasField("failure")
    assert (old.failure.error_type, old.failure.message) == ("handler_error", "it broke")
    assert (json.loads(old.result_json), MessageToDict(old.result)) == ({}, {})


async def test_records_and_transitions_are_known_by_uuids_that_stay(client: Client, engine: Engine) -> None:
    step = await attempted(client, engine, ValueError(), 1, **ONCE)
    first, second = await audit(client, step), await audit(client, step)
    assert first == second
    uuids = [UUID(text) for r in first.audit_records for text in (r.audit_uuid, r.transition_uuid)]
    assert len(set(uuids)) == 4


@pytest.mark.parametrize("value", [[1, HUGE], "text", 7, 1.5, True])
async def test_a_result_that_is_no_object_is_kept(client: Client, engine: Engine, value: Any) -> None:
    step = await attempted(client, engine, value)
    (record,) = (await audit(client, step)).audit_records
    assert json.loads(record.result_json) == value
    assert list(MessageToDict(record.result)) == ["value"]


async def test_a_step_that_was_not_run_has_no_history(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    steps = await client.list_steps((await client.create()).task_uuid)
    answer = await audit(client, steps["s2"])
    assert answer == steps_pb2.GetStepAuditResponse(pagination=common_pb2.PaginationResponse())
    await client.steps.ResolveStep(
        steps_pb2.ResolveStepRequest(
            task_uuid=steps["s2"].task_uuid,
            step_uuid=steps["s2"].step_uuid,
            action_type=steps_pb2.STEP_MANUAL_ACTION_TYPE_COMPLETE_MANUALLY,
            result_json="1",
            performed_by="ada",
            reason="by hand",
        ),
        timeout=PATIENCE_SECONDS,
    )
    assert len((await audit(client, steps["s2"])).audit_records) == 0  # workers' results only


async def test_what_operators_did_is_told_with_every_page(client: Client, engine: Engine) -> None:
    step = await attempted(client, engine, ValueError(), ValueError(), **ONCE)
    task, uuid = UUID(step.task_uuid), UUID(step.step_uuid)
    await engine.operators.resolve_manually(task, uuid, performed_by="bob", reason="not needed")
    whole = await audit(client, step)
    new, old = whole.interventions
    assert (new.action, new.performed_by, new.reason) == ("resolve_manually", "bob", "not needed")
    assert (new.from_state, new.to_state) == (State.STEP_STATE_ERROR, State.STEP_STATE_RESOLVED_MANUALLY)
    assert (old.action, old.performed_by, old.reason) == ("reset_for_retry", "ada", "again")
    assert (old.from_state, old.to_state) == (State.STEP_STATE_ERROR, State.STEP_STATE_PENDING)
    assert old.intervened_at.ToDatetime() < new.intervened_at.ToDatetime()
    page = await audit(client, step, Page(limit=1))
    assert (len(page.audit_records), list(page.interventions)) == (1, [new, old])


async def test_a_cancelled_step_says_who_and_why(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    task_uuid = (await client.create()).task_uuid
    await engine.operators.cancel(UUID(task_uuid), reason="a mistake", requested_by="ada")
    steps = await client.list_steps(task_uuid)
    for step in steps.values():
        (only,) = (await audit(client, step)).interventions
        assert (only.action, only.performed_by, only.reason) == ("cancel", "ada", "a mistake")
    await engine.operators.cancel(UUID(other := (await client.create()).task_uuid))
    (only,) = (await audit(client, (await client.list_steps(other))["s1"])).interventions
    assert (only.action, only.HasField("performed_by"), only.HasField("reason")) == ("cancel", False, False)


async def test_pages_lead_through_every_record_once(client: Client, engine: Engine) -> None:
    step = await attempted(client, engine, *[ValueError()] * 4, 5, **ONCE)
    whole = list((await audit(client, step)).audit_records)
    assert len(whole) == 5
    for limit in (1, 2, 5, 1000):
        page = await audit(client, step, Page(limit=limit))
        rows = list(page.audit_records)
        assert (page.pagination.total, page.pagination.offset) == (5, 0)
        while page.pagination.has_more:
            page = await audit(client, step, Page(limit=limit, page_token=page.pagination.next_page_token))
            assert page.pagination.offset == len(rows)
            rows += page.audit_records
        assert rows == whole
        assert not page.pagination.HasField("next_page_token")
    skipped = await audit(client, step, Page(limit=2, offset=3))
    assert list(skipped.audit_records) == whole[3:]


async def test_a_history_ends_early_rather_than_grow_too_large(client: Client, engine: Engine) -> None:
    """With and without pages; a client with default options reads all of it."""
    text = "x" * 300_000
    step = await attempted(client, engine, ValueError(), text, **ONCE)
    await engine.sql(
        "INSERT INTO tasker.step_results SELECT task_uuid, step_uuid, sort_key + n, attempt, success, status, result, "
        "error, metadata, orchestration, recorded_at FROM tasker.step_results, generate_series(1000, 1019) n "
        "WHERE success RETURNING 1"
    )
    await engine.sql(
        "INSERT INTO tasker.workflow_step_transitions (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, "
        "created_at) SELECT r.task_uuid, r.step_uuid, r.sort_key, 'in_progress', 'enqueued_for_orchestration', 1, "
        "tasker.now() FROM tasker.step_results r WHERE r.sort_key > 1000 RETURNING 1"
    )
    page = await audit(client, step)
    seen = [record.audit_uuid for record in page.audit_records]
    assert (len(seen), page.pagination.total, page.pagination.has_more) == (1, 22, True)
    while page.pagination.has_more:
        page = await audit(client, step, Page(page_token=page.pagination.next_page_token))
        assert page.ByteSize() < 4 * 1024 * 1024
        seen += [record.audit_uuid for record in page.audit_records]
    assert len(seen) == len(set(seen)) == 22


async def refusal_of(
    client: Client, step: tasks_pb2.Step, page: Page | None = None, **fields: Any
) -> Refusal:
    return await refused(audit(client, step, page, **fields))


async def test_what_is_wrong_is_refused(client: Client, engine: Engine) -> None:
    step = await attempted(client, engine, ValueError(), 1, **ONCE)
    other = (await client.create()).task_uuid
    nobody = str(uuid4())
    refusal = await refusal_of(client, step, step_uuid=nobody)
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "STEP_NOT_FOUND")
    refusal = await refusal_of(client, step, task_uuid=nobody, step_uuid=nobody)
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    refusal = await refusal_of(client, step, task_uuid=other)
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"step_uuid"})
    assert (await refusal_of(client, step, task_uuid="7")).fields == {"task_uuid"}
    assert (await refusal_of(client, step, step_uuid="7")).fields == {"step_uuid"}
    token = (await audit(client, step, Page(limit=1))).pagination.next_page_token
    steps = await client.list_steps(other)
    for page, given, wrong in (
        (Page(limit=0), {}, "limit"),
        (Page(limit=1001), {}, "limit"),
        (Page(offset=-1), {}, "offset"),
        (Page(page_token=token + "x"), {}, "page_token"),
        (Page(page_token=token), {"task_uuid": other, "step_uuid": steps["s1"].step_uuid}, "page_token"),
    ):
        refusal = await refusal_of(client, step, page, **given)
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {f"pagination.{wrong}"})
