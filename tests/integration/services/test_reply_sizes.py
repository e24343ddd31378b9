"""Whatever was accepted can be read by every client: these read no more than 4 MiB, as clients do by default."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from tasker.client import TaskerClient
from tasker.domain.storable import MAX_RESULT_BYTES
from tasker.orchestration.engine.creation import MAX_TAGS
from tasker.orchestration.services.sizing import REPLY_BYTES, STRUCT_JSON_BYTES
from tasker.v1 import common_pb2, steps_pb2, tasks_pb2, templates_pb2
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, graph
from tests.support.waiting import PATIENCE_SECONDS

#: What takes most as a Struct, most as PostgreSQL's text, and nothing more than its JSON.
FILLINGS: dict[str, Any] = {
    "numbers": lambda room: [1] * min(room // 2 - 1, 1000),
    "large numbers": lambda room: [1e300] * min(room // 305, 100),
    "lists": lambda room: [[]] * min(room // 3 - 1, 1000),
    "texts": lambda room: "ü" * min(room // 2 - 2, 10_000),
}


def filled(kind: str, size: int) -> dict[str, Any]:
    """Return a context of so many bytes at most, as JSON text that PostgreSQL would write, and hardly less."""
    context: dict[str, Any] = {}
    piece = FILLINGS[kind](size)
    room = size - 100
    number = 0
    while True:
        cost = len(json.dumps({str(number): piece}, ensure_ascii=False, separators=(",", ":")).encode())
        cost += 300 * len(piece) if kind == "large numbers" else 0
        if cost > room:
            return context
        context[str(number)] = piece
        room -= cost
        number += 1


def room_left(*replies: Message) -> None:
    for reply in replies:
        assert reply.ByteSize() <= REPLY_BYTES, type(reply).__name__


@pytest.mark.parametrize("kind", FILLINGS)
async def test_a_context_at_its_limit_is_readable_in_every_reply(
    client: Client, engine: Engine, kind: str
) -> None:
    await engine.register(chain(2))
    context = filled(kind, MAX_RESULT_BYTES)
    request = tasks_pb2.CreateTaskRequest(
        namespace="test",
        name="workflow",
        context_json=json.dumps(context, ensure_ascii=False),
        tags=[f"{number:03d}" + "x" * 78 for number in range(MAX_TAGS)],
        idempotency_key="once",
    )
    created = await client.tasks.CreateTask(request, timeout=PATIENCE_SECONDS)
    task_uuid = created.task.task_uuid
    await engine.succeed(*await engine.claim(), result={"value": context})
    await engine.process()
    whole = tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_steps=True, include_context=True)
    replies: list[Any] = [
        created,
        await client.tasks.CreateTask(request, timeout=PATIENCE_SECONDS),
        await client.tasks.GetTask(tasks_pb2.GetTaskRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS),
        await client.tasks.GetTask(whole, timeout=PATIENCE_SECONDS),
        await client.tasks.ListTasks(tasks_pb2.ListTasksRequest(), timeout=PATIENCE_SECONDS),
        await client.tasks.GetTaskContext(
            tasks_pb2.GetTaskContextRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS
        ),
        await client.tasks.CancelTask(
            tasks_pb2.CancelTaskRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS
        ),
    ]
    room_left(*replies)
    for reply in replies[1:4]:
        assert json.loads(reply.task.context_json, parse_int=float) == json.loads(
            request.context_json, parse_int=float
        )
        assert not reply.task.HasField("context")


async def test_what_is_beyond_the_limit_of_a_context_is_refused(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    for kind in FILLINGS:
        text = json.dumps(filled(kind, MAX_RESULT_BYTES + 30_000) | {"more": ["x" * 9000] * 4})
        refusal = await refused(client.create(context_json=text))
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"context"}), kind
    assert await engine.sql("SELECT count(*) FROM tasker.tasks") == [(0,)]


async def test_a_small_context_comes_as_struct_and_as_text_a_large_one_once(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    small = await client.create(context_json=json.dumps(filled("texts", STRUCT_JSON_BYTES - 100)))
    large = await client.create(context_json=json.dumps(filled("texts", STRUCT_JSON_BYTES + 30_000)))
    assert (small.HasField("context"), large.HasField("context")) == (True, False)
    assert small.context["0"] == json.loads(small.context_json)["0"]


@pytest.mark.parametrize("kind", FILLINGS)
async def test_pages_of_tasks_end_early_and_lose_none(client: Client, engine: Engine, kind: str) -> None:
    await engine.register(chain(1))
    tags = [f"{number:03d}" + "x" * 78 for number in range(MAX_TAGS)]
    created = [
        (await client.create(context_json=json.dumps(filled(kind, 90_000) | {"n": n}), tags=tags)).task_uuid
        for n in range(20)
    ]
    seen: list[str] = []
    page = common_pb2.PaginationRequest(limit=1000)
    for _ in range(20):
        reply = await client.tasks.ListTasks(
            tasks_pb2.ListTasksRequest(pagination=page), timeout=PATIENCE_SECONDS
        )
        room_left(reply)
        seen += [task.task_uuid for task in reply.tasks]
        assert reply.pagination.count == len(reply.tasks) > 0
        if not reply.pagination.has_more:
            break
        page.page_token = reply.pagination.next_page_token
    assert seen == created[::-1]


async def many_results(client: Client, engine: Engine, count: int, size: int) -> tuple[str, dict[str, Any]]:
    """Run a task of steps side by side that return a lot; return it and the results by step."""
    await engine.register(graph({f"s{number:02d}": [] for number in range(count)}))
    task_uuid = (await client.create()).task_uuid
    results: dict[str, Any] = {}
    while claimed := await engine.claim():
        for step in claimed:
            results[step.name] = {"value": filled("numbers", size), "step": step.name}
            await engine.succeed(step, result=results[step.name])
    await engine.process()
    return task_uuid, results


def values(steps: Any) -> dict[str, Any]:
    return {step.name: json.loads(step.results_json)["result"] for step in steps if not step.results_omitted}


async def test_a_task_of_many_large_results_is_readable_and_each_of_them(
    client: Client, engine: Engine
) -> None:
    task_uuid, results = await many_results(client, engine, 12, 900_000)
    request = tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_steps=True)
    got = await client.tasks.GetTask(request, timeout=PATIENCE_SECONDS)
    listed = await client.steps.ListSteps(
        steps_pb2.ListStepsRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS
    )
    for reply in (got, listed):
        room_left(reply)
        assert [step.name for step in reply.steps] == list(results)
        there = values(reply.steps)
        assert 1 <= len(there) < len(results)
        assert there.items() <= results.items()
        for step in reply.steps:
            assert step.results_omitted == (not step.HasField("results_json"))
            one = await client.steps.GetStep(
                steps_pb2.GetStepRequest(task_uuid=task_uuid, step_uuid=step.step_uuid),
                timeout=PATIENCE_SECONDS,
            )
            room_left(one)
            assert json.loads(one.step.results_json)["result"] == results[step.name]
            assert not one.step.HasField("results_omitted")
    assert not got.HasField("steps_pagination")
    assert not listed.pagination.has_more


@pytest.mark.parametrize("size", [900_000, 100_000])
async def test_pages_of_steps_end_early_rather_than_leave_results_out(
    client: Client, engine: Engine, size: int
) -> None:
    task_uuid, results = await many_results(client, engine, 12, size)
    found: dict[str, Any] = {}
    page = common_pb2.PaginationRequest(limit=1000)
    while True:
        reply = await client.steps.ListSteps(
            steps_pb2.ListStepsRequest(task_uuid=task_uuid, pagination=page), timeout=PATIENCE_SECONDS
        )
        room_left(reply)
        found |= values(reply.steps)
        if not reply.pagination.has_more:
            break
        page.page_token = reply.pagination.next_page_token
    assert found == results


async def test_outputs_that_do_not_fit_are_named(client: Client, engine: Engine) -> None:
    task_uuid, results = await many_results(client, engine, 5, 600_000)
    reply = await client.tasks.GetTaskContext(
        tasks_pb2.GetTaskContextRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS
    )
    room_left(reply)
    outputs = json.loads(reply.context.outputs_json)
    assert outputs.items() <= results.items()
    assert {*outputs, *reply.context.outputs_omitted} == set(results)
    assert reply.context.outputs_omitted
    assert not reply.context.HasField("merged")


async def test_our_client_brings_what_was_left_out(
    client: Client, engine: Engine, orchestration: Any
) -> None:
    task_uuid, results = await many_results(client, engine, 8, 900_000)
    async with TaskerClient(orchestration.address) as ours:
        task = await ours.get(task_uuid, steps=True)
        assert {step.name: step.result for step in task.steps} == results
        assert {step.name: step.result for step in await ours.steps(task_uuid)} == results
        bare = await ours.steps(task_uuid, results=False)
        assert [(step.name, step.results) for step in bare] == [(name, None) for name in results]
        assert (await ours.context(task_uuid)).outputs == results


async def test_more_steps_than_a_reply_holds_come_page_by_page(
    client: Client, engine: Engine, orchestration: Any
) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    # More than any template makes: as many as batches of many batches would.
    await engine.sql(
        "INSERT INTO tasker.workflow_steps "
        "SELECT (jsonb_populate_record(s, jsonb_build_object('step_uuid', gen_random_uuid(), 'name', "
        "repeat('n', 240) || n))).* FROM tasker.workflow_steps s, generate_series(1, 14999) n RETURNING 1"
    )
    await engine.sql("UPDATE tasker.tasks SET total_steps = 15000 RETURNING 1")
    request = tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_steps=True)
    got = await client.tasks.GetTask(request, timeout=PATIENCE_SECONDS)
    room_left(got)
    assert (got.steps_pagination.total, got.steps_pagination.has_more) == (15_000, True)
    async with TaskerClient(orchestration.address) as ours:
        steps = (await ours.get(task_uuid, steps=True)).steps
        assert len({step.step_uuid for step in steps}) == 15_000
        assert len(await ours.steps(task_uuid)) == 15_000


async def test_templates_are_listed_however_long_they_are_described(client: Client, engine: Engine) -> None:
    long = "\U0001f600" * 1000
    for n in range(20):
        await engine.register(chain(1) | {"version": f"1.0.{n}", "description": long * 60})  # 240 kB
    await engine.register(chain(1) | {"version": "0.1.0", "description": long})
    for page in (None, common_pb2.PaginationRequest()):
        request = templates_pb2.ListTemplatesRequest(pagination=page)
        reply = await client.templates.ListTemplates(request, timeout=PATIENCE_SECONDS)
        room_left(reply)
        assert [one.description for one in reply.templates] == [f"{long[:997]}..."] * 20 + [long]
        assert reply.HasField("pagination") == (page is not None)
        assert not reply.pagination.has_more
    one = await client.templates.GetTemplate(
        templates_pb2.GetTemplateRequest(namespace="test", name="workflow", version="1.0.7"),
        timeout=PATIENCE_SECONDS,
    )
    assert one.template.description == long * 60


async def test_more_templates_than_a_reply_holds_come_page_by_page(
    client: Client, engine: Engine, orchestration: Any
) -> None:
    await engine.register(chain(1) | {"description": "\U0001f600" * 1000})
    await engine.sql(
        "INSERT INTO tasker.named_tasks SELECT (jsonb_populate_record(t, jsonb_build_object("
        "'named_task_uuid', gen_random_uuid(), 'version', '1.0.' || n))).* "
        "FROM tasker.named_tasks t, generate_series(1, 1999) n RETURNING 1"
    )
    versions = [f"1.0.{n}" for n in reversed(range(2000))]
    request = templates_pb2.ListTemplatesRequest()
    found: list[str] = []
    while True:
        reply = await client.templates.ListTemplates(request, timeout=PATIENCE_SECONDS)
        room_left(reply)
        assert (reply.pagination.total, reply.pagination.offset) == (2000, len(found))
        found += [one.version for one in reply.templates]
        if not reply.pagination.has_more:
            break
        request.pagination.limit = 1000
        request.pagination.page_token = reply.pagination.next_page_token
    assert found == versions
    async with TaskerClient(orchestration.address) as ours:
        listing = await ours.templates()
    assert [one.version for one in listing.templates] == versions
    assert listing.total_count == 2000


async def failed_steps(client: Client, engine: Engine, count: int, *, name: str, message: str) -> str:
    """Return a task of so many steps that failed with such names and messages: more than any template makes."""
    await engine.register(chain(1, retry={"max_attempts": 1}))
    task_uuid = (await client.create()).task_uuid
    await engine.fail(*await engine.claim(), error={"message": message, "retryable": True})
    await engine.sql(
        "WITH steps AS (INSERT INTO tasker.workflow_steps "
        "SELECT (jsonb_populate_record(s, jsonb_build_object('step_uuid', gen_random_uuid(), 'name', %s || n))).* "
        "FROM tasker.workflow_steps s, generate_series(2, %s) n RETURNING step_uuid) "
        "INSERT INTO tasker.step_results "
        "SELECT (jsonb_populate_record(r, jsonb_build_object('step_uuid', s.step_uuid))).* "
        "FROM tasker.step_results r, steps s RETURNING 1",
        name,
        count,
    )
    return task_uuid


@pytest.mark.parametrize(
    ("count", "name", "whole", "listed"),
    [(500, "n", True, True), (3000, "n", False, True), (12_000, "n" * 240, False, False)],
    ids=["whole", "without messages", "without steps"],
)
async def test_a_summary_leaves_out_messages_and_then_steps(
    client: Client, engine: Engine, orchestration: Any, count: int, name: str, whole: bool, listed: bool
) -> None:
    message = "\U0001f600" * 500
    task_uuid = await failed_steps(client, engine, count, name=name, message=message)
    request = tasks_pb2.GetTaskSummaryRequest(task_uuid=task_uuid)
    reply = await client.tasks.GetTaskSummary(request, timeout=PATIENCE_SECONDS)
    room_left(reply)
    for step in reply.steps:
        told = (message, False) if step.error.HasField("message") else ("", True)
        assert (step.error.message, step.error.message_omitted) == told
        assert step.HasField("error")
    omitted = [step for step in reply.steps if step.error.message_omitted]
    assert (not omitted) == whole
    assert (not reply.HasField("omitted_steps")) == listed
    assert len(reply.steps) + reply.omitted_steps == count
    assert len(reply.steps) > 1000 or whole
    assert (
        len(omitted) < len(reply.steps)
    ) == listed  # no steps are cut while there are messages to leave out
    async with TaskerClient(orchestration.address) as ours:
        summary = await ours.summary(task_uuid)
    assert (len(summary.steps), summary.omitted_steps) == (len(reply.steps), reply.omitted_steps)
    errors = [step.error for step in summary.steps if step.error is not None]
    assert [error.message is None for error in errors] == [error.message_omitted for error in errors]
    assert sum(error.message_omitted for error in errors) == len(omitted)
    for step in omitted[:1]:
        one = await client.steps.GetStep(
            steps_pb2.GetStepRequest(task_uuid=task_uuid, step_uuid=step.step_uuid), timeout=PATIENCE_SECONDS
        )
        assert one.step.failure.message == message
