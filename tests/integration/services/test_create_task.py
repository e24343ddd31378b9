"""TaskService/CreateTask: what is honoured, what is refused, and that a refusal writes nothing."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode

from tasker.orchestration.engine.group_commit import GroupCommit
from tasker.v1 import common_pb2, tasks_pb2
from tests.support import clients, waiting
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, graph
from tests.support.rivals import rival, start
from tests.support.waiting import PATIENCE_SECONDS

WRITTEN = (
    "tasker.tasks",
    "tasker.workflow_steps",
    "tasker.workflow_step_edges",
    "tasker.task_identities",
    "tasker.task_transitions",
    "tasker.workflow_step_transitions",
    "pgmq.q_worker_test_queue",
)


async def rows(engine: Engine) -> dict[str, int]:
    """Return how many rows there are of all that creating a task writes."""
    return {table: (await engine.sql(f"SELECT count(*) FROM {table}"))[0][0] for table in WRITTEN}


def a_request(**fields: Any) -> tasks_pb2.CreateTaskRequest:
    return tasks_pb2.CreateTaskRequest(**({"name": "workflow", "namespace": "test"} | fields))


# What is honoured


async def test_all_eleven_fields_are_honoured(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    correlation, parent = str(uuid4()), str(uuid4())
    created = await client.create(
        name="workflow",
        namespace="test",
        version="1.0.0",
        context={"order": 7},
        correlation_id=correlation,
        initiator="anna",
        source_system="shop",
        reason="a test",
        priority=-100,
        tags=["b", "a"],
        parent_correlation_id=parent,
    )
    for task in (created, await client.get(created.task_uuid)):
        assert (task.name, task.namespace, task.version) == ("workflow", "test", "1.0.0")
        assert dict(task.context) == {"order": 7}
        assert json.loads(task.context_json) == {"order": 7}
        assert (task.correlation_id, task.parent_correlation_id) == (correlation, parent)
        assert (task.initiator, task.source_system, task.reason) == ("anna", "shop", "a test")
        assert (task.priority, list(task.tags)) == (-100, ["b", "a"])


async def test_what_is_left_out_has_the_default_of_the_contract(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    task = await client.create()
    assert (task.initiator, task.reason, task.version) == ("grpc", "Task created via gRPC", "1.0.0")
    assert task.source_system
    assert UUID(task.correlation_id).version == 7
    assert not task.HasField("parent_correlation_id")
    assert (task.priority, list(task.tags), dict(task.context), task.context_json) == (0, [], {}, "{}")


async def test_the_reply_is_the_task_that_get_task_would_give(client: Client, engine: Engine) -> None:
    await engine.register(chain(3))
    created = await client.create(context={"n": 1})
    assert created == await client.get(created.task_uuid)
    assert created.state == common_pb2.TASK_STATE_STEPS_IN_PROCESS
    assert (created.total_steps, created.pending_steps, created.completed_steps) == (3, 2, 0)
    assert (created.execution_status, created.recommended_action) == ("processing", "wait_for_completion")
    assert (created.health_status, created.completion_percentage) == ("healthy", 0)


async def test_integral_doubles_of_a_struct_are_integers(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task = await client.create(context={"count": 3, "price": 2.5, "deep": [{"n": 1e15}]})
    assert json.loads(task.context_json) == {"count": 3, "price": 2.5, "deep": [{"n": 10**15}]}
    (claimed,) = await engine.claim()
    assert claimed.context is not None
    assert repr(claimed.context["count"]) == "3"  # what the handler sees


async def test_json_text_is_exact_and_wins_over_the_struct(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    exact = {"id": 9007199254740993, "text": "ümlaut"}
    task = await client.create(context={"id": 1}, context_json=json.dumps(exact))
    assert json.loads(task.context_json) == exact
    (claimed,) = await engine.claim()
    assert claimed.context == exact


async def test_struct_and_json_text_of_equal_contexts_are_one_identity(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(1) | {"identity_strategy": "strict"})
    await client.create(context={"a": 1, "b": 2})
    refusal = await refused(client.create(context_json='{"b": 2.0, "a": 1}'))
    assert refusal.code is StatusCode.ALREADY_EXISTS


async def test_an_empty_version_means_the_highest(client: Client, engine: Engine) -> None:
    for version in ("1.9.0", "1.10.0", "1.2.30"):
        await engine.register(chain(1) | {"version": version})
    assert (await client.create()).version == "1.10.0"
    assert (await client.create(version="1.9.0")).version == "1.9.0"
    await engine.register(chain(1) | {"version": "2.0.0"})  # every orchestrator learns of it
    await waiting.until(lambda: _newest_is(client, "2.0.0"))


async def _newest_is(client: Client, version: str) -> bool:
    return (await client.create()).version == version


async def test_a_template_without_steps_to_wait_for_starts_all_roots(client: Client, engine: Engine) -> None:
    await engine.register(graph({"a": [], "b": [], "c": ["a", "b"]}))
    task = await client.create()
    steps = await client.list_steps(task.task_uuid)
    assert {name: step.state for name, step in steps.items()} == {
        "a": common_pb2.STEP_STATE_ENQUEUED,
        "b": common_pb2.STEP_STATE_ENQUEUED,
        "c": common_pb2.STEP_STATE_PENDING,
    }
    assert await engine.messages("worker_test_queue") == 2


# What is refused


#: What only those know who have seen our code.
PYTHON = re.compile(
    r"\b(dict|list|str|int|float|NoneType|None|True|False|nan|inf|recursion|Exception|sys|codec|Traceback)\b"
)

#: A request's fields, and the one that the refusal names. The context has one name, whichever field brought it.
BAD_FIELDS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"name": ""}, "name"),
    ({"namespace": ""}, "namespace"),
    ({"name": "x" * 256}, "name"),
    ({"version": "1" * 51}, "version"),
    ({"initiator": ""}, "initiator"),
    ({"source_system": "x" * 256}, "source_system"),
    ({"reason": "x" * 501}, "reason"),
    ({"initiator": "nul\0"}, "initiator"),
    ({"name": "nul\0"}, "name"),
    ({"priority": 101}, "priority"),
    ({"priority": -101}, "priority"),
    ({"tags": ["good", ""]}, "tags[1]"),
    ({"tags": [f"{n}" for n in range(101)]}, "tags"),
    ({"tags": [f"{n:03d}" + "x" * 200 for n in range(50)]}, "tags"),
    ({"correlation_id": "not-a-uuid"}, "correlation_id"),
    ({"parent_correlation_id": "{0197b7f2-7c1e-7d3a-9c55-3f0f6d1a2b4c}"}, "parent_correlation_id"),
    ({"context_json": "{"}, "context"),
    ({"context_json": "[1, 2]"}, "context"),
    ({"context_json": "null"}, "context"),
    ({"context_json": '"text"'}, "context"),
    ({"context_json": '{"n": NaN}'}, "context"),
    ({"context_json": '{"n": 1e999}'}, "context"),
    ({"context": {"items": [1, {"n": float("nan")}]}}, "context.items[1].n"),
    ({"context": {"n": float("inf")}}, "context.n"),
    ({"context_json": f'{{"items": [{"9" * 400}]}}'}, "context.items[0]"),
    ({"context_json": f'{{"items": [1, {{"n": -{"9" * 100_000}}}]}}'}, "context.items[1].n"),
    ({"context_json": "[" * 100_000}, "context"),
    ({"context_json": '{"a": "' + "x" * 100_000}, "context"),
    ({"context_json": json.dumps({str(n): [1e308] * 900 for n in range(5)})}, "context"),
    ({"context": {"text": "nul\0"}}, "context"),
    ({"context_json": r'{"text": "\ud800"}'}, "context"),
    ({"context_json": json.dumps({"text": "x" * 10_001})}, "context.text"),
    ({"context": {"items": list(range(1001))}}, "context.items"),
    ({"context_json": '{"a": ' * 11 + "1" + "}" * 11}, "context.a.a.a.a.a.a.a.a.a.a"),
    ({"context_json": json.dumps({str(n): "x" * 9_999 for n in range(150)})}, "context"),
    ({"idempotency_key": ""}, "idempotency_key"),
    ({"idempotency_key": "  "}, "idempotency_key"),
    ({"idempotency_key": "x" * 256}, "idempotency_key"),
    ({"idempotency_key": "nul\0"}, "idempotency_key"),
)


async def test_a_bad_field_is_named_and_nothing_is_written(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    before = await rows(engine)
    told = {}
    for number, (fields, field) in enumerate(BAD_FIELDS):
        refusal = await refused(client.tasks.CreateTask(a_request(**fields), timeout=PATIENCE_SECONDS))
        named = {name.replace("context_json", "context") for name in refusal.fields}
        if (refusal.code, named) != (StatusCode.INVALID_ARGUMENT, {field}) or PYTHON.search(refusal.message):
            told[number, field] = refusal
    assert told == {}
    assert await rows(engine) == before


async def test_all_mistakes_are_told_at_once(client: Client, engine: Engine) -> None:
    refusal = await refused(client.create(name="", namespace="", priority=1000))
    assert refusal.fields == {"name", "namespace", "priority"}
    refusal = await refused(
        client.create(
            correlation_id="7",
            parent_correlation_id="8",
            context_json="[]",
            tags=[""],
            idempotency_key=" ",
            reason="x" * 501,
        )
    )
    assert refusal.fields == {
        "correlation_id",
        "parent_correlation_id",
        "context_json",
        "tags[0]",
        "idempotency_key",
        "reason",
    }


async def test_an_unknown_template_is_refused_with_the_known_versions(client: Client, engine: Engine) -> None:
    await engine.register(chain(1) | {"version": "1.9.0"})
    await engine.register(chain(1) | {"version": "1.10.0"})
    before = await rows(engine)
    refusal = await refused(client.create(version="3.0.0"))
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "TEMPLATE_NOT_FOUND")
    assert refusal.facts == {
        "namespace": "test",
        "name": "workflow",
        "version": "3.0.0",
        "known_versions": "1.10.0,1.9.0",
    }
    assert refusal.fields == {"version"}
    refusal = await refused(client.create(name="nobody"))
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "TEMPLATE_NOT_FOUND")
    assert refusal.facts["known_versions"] == ""
    assert refusal.fields == {"name"}
    assert await rows(engine) == before


async def test_every_violation_of_the_schema_is_listed(client: Client, engine: Engine) -> None:
    schema = {
        "type": "object",
        "required": ["order_id", "items"],
        "properties": {
            "order_id": {"type": "integer"},
            "email": {"type": "string", "minLength": 3},
            "items": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
        },
    }
    await engine.register(chain(1) | {"input_schema": schema})
    before = await rows(engine)
    refusal = await refused(
        client.create(context={"order_id": "seven", "email": "", "items": [{"sku": 1}, {}]})
    )
    assert refusal.code is StatusCode.INVALID_ARGUMENT
    assert len(refusal.violations) == 3
    assert {"context.order_id", "context.email"} < refusal.fields
    assert any(field.startswith("context.items[1]") for field in refusal.fields)
    refusal = await refused(client.create())
    assert len(refusal.violations) == 2
    assert all(name in str(refusal.violations) for name in ("order_id", "items"))
    assert await rows(engine) == before
    await client.create(context={"order_id": 7, "items": []})


# Identity


async def test_an_equal_task_is_refused_with_the_first_one_and_what_to_do(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(2) | {"identity_strategy": "strict"})
    first = await client.create(context={"order": 1})
    before = await rows(engine)
    refusal = await refused(client.create(context={"order": 1}))
    assert (refusal.code, refusal.reason) == (StatusCode.ALREADY_EXISTS, "IDENTITY_CONFLICT")
    template = {"namespace": "test", "name": "workflow", "version": "1.0.0"}
    assert refusal.facts == template | {"task_uuid": first.task_uuid}
    assert first.task_uuid in refusal.message
    assert "read or watch that one, or pass an idempotency_key" in refusal.message
    assert await rows(engine) == before
    await client.create(context={"order": 2})


async def test_a_replay_with_the_key_returns_the_first_task(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    request = a_request(context={"order": 1}, idempotency_key="order-1")
    first = await client.tasks.CreateTask(request, timeout=PATIENCE_SECONDS)
    assert (first.HasField("already_existed"), first.already_existed) == (True, False)
    before = await rows(engine)
    again = await client.tasks.CreateTask(request, timeout=PATIENCE_SECONDS)
    assert again.already_existed
    assert again.task == first.task
    assert await rows(engine) == before


async def test_a_replay_shows_how_far_the_task_has_come(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    request = a_request(idempotency_key="key")
    first = await client.tasks.CreateTask(request, timeout=PATIENCE_SECONDS)
    stream = client.stream(first.task.task_uuid)
    await engine.succeed(*await engine.claim())
    assert [update async for update in stream][-1].update_type == clients.Update.UPDATE_TYPE_TASK_COMPLETE
    again = await client.tasks.CreateTask(request, timeout=PATIENCE_SECONDS)
    assert (again.task.state, again.task.HasField("completed_at")) == (common_pb2.TASK_STATE_COMPLETE, True)


async def test_the_key_with_another_context_is_refused(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    first = await client.create(context={"order": 1}, idempotency_key="order-1")
    refusal = await refused(client.create(context={"order": 2}, idempotency_key="order-1"))
    assert (refusal.code, refusal.reason) == (StatusCode.ALREADY_EXISTS, "IDENTITY_CONFLICT")
    assert first.task_uuid not in str(refusal)


async def test_50_equal_calls_at_once_make_one_task(client: Client, engine: Engine) -> None:
    await engine.register(chain(2) | {"identity_strategy": "strict"})
    answers = await asyncio.gather(
        *(client.create(context={"order": 1}) for _ in range(50)), return_exceptions=True
    )
    created = [task for task in answers if isinstance(task, tasks_pb2.Task)]
    assert len(created) == 1
    refusals = [await refused(_raise(error)) for error in answers if isinstance(error, BaseException)]
    assert {refusal.code for refusal in refusals} == {StatusCode.ALREADY_EXISTS}
    assert len(refusals) == 49
    assert {refusal.facts["task_uuid"] for refusal in refusals} == {created[0].task_uuid}
    counts = await rows(engine)
    assert (counts["tasker.tasks"], counts["tasker.workflow_steps"]) == (1, 2)


async def _raise(error: BaseException) -> None:
    raise error


# Sharing


async def test_calls_at_once_share_a_transaction(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_in = 0
    submit = GroupCommit.submit

    async def counted(self: GroupCommit[Any, Any], item: object) -> Any:
        nonlocal handed_in
        handed_in += 1
        return await submit(self, item)

    monkeypatch.setattr(GroupCommit, "submit", counted)
    await engine.register(chain(1))
    await client.create()  # the template is planned
    async with rival(engine) as other:  # the first call waits for it, the others for the first
        await other.sql("LOCK TABLE tasker.task_identities IN ACCESS EXCLUSIVE MODE")
        first = await start(engine, client.create(context={"n": 0}))
        calls = [asyncio.create_task(client.create(context={"n": n})) for n in range(1, 64)]
        await waiting.until(lambda: handed_in == 1 + 64)
        await other.commit()
    tasks = await asyncio.gather(first, *calls)
    assert len({task.task_uuid for task in tasks}) == 64
    ((transactions,),) = await engine.sql(
        "SELECT count(DISTINCT xid) FROM tasker.task_transitions WHERE task_uuid = ANY (%s)",
        [UUID(task.task_uuid) for task in tasks],
    )
    assert transactions == 2


@pytest.mark.own_database
async def test_a_call_that_cannot_be_written_fails_alone(client: Client, engine: Engine) -> None:
    """The database refuses one of many that share a transaction."""
    await engine.register(chain(1))
    async with engine.database.connection() as connection:
        await connection.execute("ALTER TABLE tasker.tasks ADD CHECK (priority <> 13)")
    answers = await asyncio.gather(
        *(client.create(priority=13 if n == 7 else 0) for n in range(32)), return_exceptions=True
    )
    failed = [index for index, answer in enumerate(answers) if isinstance(answer, BaseException)]
    assert failed == [7]
    refusal = await refused(_raise(answers[7]))  # type: ignore[arg-type]
    assert refusal.code is StatusCode.INTERNAL
    assert "priority" not in refusal.message


async def test_a_caller_that_leaves_does_not_harm_the_others(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    calls = [client.tasks.CreateTask(a_request(), timeout=PATIENCE_SECONDS) for _ in range(20)]
    await asyncio.gather(*(call.initial_metadata() for call in calls[:1]), return_exceptions=True)
    for call in calls[::2]:
        call.cancel()
    created = await asyncio.gather(*calls[1::2])
    assert len({response.task.task_uuid for response in created}) == 10


async def test_a_task_may_have_as_many_tags_as_every_reply_can_hold(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    tags = [f"{number:03d}" + "x" * 78 for number in range(100)]
    assert list((await client.create(tags=tags)).tags) == tags
