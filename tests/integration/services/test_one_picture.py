"""Each answer is one picture: what is committed while it is read is in all of it or in nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias
from uuid import UUID

import psycopg
import psycopg.types.json
import pytest
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from tasker.domain.uuids import uuid7
from tasker.messaging.queues import RESULTS_QUEUE
from tasker.orchestration.engine.dlq import DlqEntries
from tasker.orchestration.service import OrchestrationService
from tasker.v1 import common_pb2, dlq_pb2, health_pb2, steps_pb2, tasks_pb2, templates_pb2
from tests.integration.services.updates import read
from tests.support.clients import Client, refused
from tests.support.dynamic import Hands, decide, workflow
from tests.support.engine import Engine, chain
from tests.support.faults import send_by_hand
from tests.support.waiting import PATIENCE_SECONDS, until

Meanwhile: TypeAlias = Callable[[str, Callable[[], Awaitable[object]]], None]


@pytest.fixture
async def meanwhile(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Meanwhile]:
    """Make something happen right behind the first statement that holds a text: its rows have been read."""
    execute = psycopg.AsyncCursor.execute
    planned: dict[str, Callable[[], Awaitable[object]]] = {}

    async def execute_and_change(cursor: Any, query: Any, *args: Any, **more: Any) -> Any:
        answer = await execute(cursor, query, *args, **more)
        text = query.decode() if isinstance(query, bytes) else str(query)
        for part in [part for part in planned if part in text]:
            await planned.pop(part)()
        return answer

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", execute_and_change)
    yield planned.__setitem__
    assert not planned, "never came by"


async def test_the_counts_of_a_task_are_those_of_its_steps(
    client: Client, engine: Engine, meanwhile: Meanwhile
) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    claimed = await engine.claim()

    async def complete() -> None:
        await engine.succeed(*claimed, result={"v": 1})
        await engine.run(UUID(task_uuid))

    meanwhile("AS last_failure_at", complete)
    for completed in (False, True):
        answer = await client.tasks.GetTask(
            tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_steps=True, include_context=True),
            timeout=PATIENCE_SECONDS,
        )
        (step,) = answer.steps
        assert answer.task.completed_steps == completed
        assert (answer.task.state == common_pb2.TASK_STATE_COMPLETE) == completed
        assert (step.state == common_pb2.STEP_STATE_COMPLETE) == completed
        assert MessageToDict(answer.context.outputs) == ({"s1": {"v": 1}} if completed else {})


async def test_a_task_has_as_many_ready_steps_as_its_steps_are_ready(
    client: Client, orchestration: OrchestrationService, engine: Engine, meanwhile: Meanwhile
) -> None:
    """A retry that becomes due while its task is read."""
    task = await engine.create(chain(1, retry={"max_attempts": 2, "backoff_base_ms": 500}))
    await engine.fail(*await engine.claim())
    await engine.judgements.tick()
    for runner in orchestration._orchestrator._runners:
        await runner.stop()

    async def due() -> bool:
        rows = await engine.sql(
            "SELECT next_retry_at <= tasker.now() FROM tasker.workflow_steps WHERE task_uuid = %s", task
        )
        return rows == [(True,)]

    meanwhile("AS last_failure_at", lambda: until(due))
    for _ in range(2):
        answer = await client.tasks.GetTask(
            tasks_pb2.GetTaskRequest(task_uuid=str(task), include_steps=True), timeout=PATIENCE_SECONDS
        )
        (step,) = answer.steps
        assert step.state == common_pb2.STEP_STATE_WAITING_FOR_RETRY
        assert answer.task.ready_steps == step.ready_for_execution
    assert step.ready_for_execution


async def test_a_summary_is_of_one_moment(client: Client, engine: Engine, meanwhile: Meanwhile) -> None:
    """Its steps are read, the task is blocked and put before a person, and then the rest is read."""
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    claimed = await engine.claim()

    async def block() -> None:
        await engine.fail(*claimed, retryable=False)
        await until(lambda: _blocked(client, task_uuid))

    meanwhile("AS last_failure_at", block)
    for failed in (False, True):
        summary = await client.tasks.GetTaskSummary(
            tasks_pb2.GetTaskSummaryRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS
        )
        (step,) = summary.steps
        assert (step.current_state == "error") == failed
        assert step.HasField("error") == failed
        assert summary.task.HasField("failure") == failed
        assert (summary.task.status == "blocked_by_failures") == failed
        assert summary.dlq.in_dlq == failed


async def _blocked(client: Client, task_uuid: str) -> bool:
    return (await client.get(task_uuid)).state == common_pb2.TASK_STATE_BLOCKED_BY_FAILURES


async def test_the_number_of_dlq_entries_is_that_of_the_entries_listed(
    client: Client, engine: Engine, meanwhile: Meanwhile
) -> None:
    entries = DlqEntries(engine.database)
    await entries.open(await engine.create(chain(1)))

    async def grow() -> None:
        await entries.open(await engine.create(chain(1)))

    calls: list[tuple[Any, Any]] = [
        (client.dlq.ListEntries, dlq_pb2.ListDlqEntriesRequest()),
        (client.dlq.GetInvestigationQueue, dlq_pb2.GetDlqInvestigationQueueRequest()),
    ]
    for call, request in calls:
        meanwhile("How many entries match", grow)
        for _ in range(2):
            answer = await call(request, timeout=PATIENCE_SECONDS)
            assert answer.pagination.total == len(answer.entries) > 0


async def test_no_answer_contradicts_itself_while_tasks_run(client: Client, engine: Engine) -> None:
    tasks = [await engine.create(chain(8)) for _ in range(5)]
    work = asyncio.gather(*(engine.run(task, rounds=10_000) for task in tasks))
    while not work.done():
        for task in tasks:
            answer = await client.tasks.GetTask(
                tasks_pb2.GetTaskRequest(task_uuid=str(task), include_steps=True), timeout=PATIENCE_SECONDS
            )
            complete = sum(step.state == common_pb2.STEP_STATE_COMPLETE for step in answer.steps)
            assert answer.task.completed_steps == complete
            assert answer.task.ready_steps == sum(step.ready_for_execution for step in answer.steps)
            assert (answer.task.state == common_pb2.TASK_STATE_COMPLETE) == (complete == len(answer.steps))
    await work


@pytest.mark.parametrize("pagination", [None, common_pb2.PaginationRequest(limit=10)])
async def test_the_number_of_steps_is_that_of_the_steps_listed(
    client: Client,
    engine: Engine,
    meanwhile: Meanwhile,
    pagination: common_pb2.PaginationRequest | None,
) -> None:
    task = await engine.create(workflow("s", "d: decision < s", "a < d", "b < d"))
    hands = Hands(engine)
    await hands.submit("s", {})
    await until(lambda: _runs(hands, "d"))

    async def grow() -> None:
        await hands.submit("d", decide("a", "b"))
        await until(lambda: _runs(hands, "a"))

    meanwhile("SELECT total_steps", grow)
    for total in (2, 4):
        answer = await client.steps.ListSteps(
            steps_pb2.ListStepsRequest(task_uuid=str(task), pagination=pagination), timeout=PATIENCE_SECONDS
        )
        assert (answer.pagination.total, len(answer.steps)) == (total, total)


async def _runs(hands: Hands, name: str) -> bool:
    return name in await hands.running()


async def test_a_step_does_not_belong_to_another_task_because_its_task_is_new(
    client: Client, engine: Engine, meanwhile: Meanwhile
) -> None:
    model = await engine.create(chain(1))
    task, step = uuid7(), uuid7()

    async def make() -> None:
        for table, columns in (("tasks", {"task_uuid": task}), ("workflow_steps", {"step_uuid": step})):
            await engine.sql(
                f"INSERT INTO tasker.{table} "
                f"SELECT (jsonb_populate_record(t, %s)).* FROM tasker.{table} t WHERE t.task_uuid = %s RETURNING 1",
                psycopg.types.json.Jsonb(
                    {"task_uuid": str(task)} | {name: str(value) for name, value in columns.items()}
                ),
                model,
            )

    meanwhile("AS last_failure_at", make)
    request = steps_pb2.GetStepRequest(task_uuid=str(task), step_uuid=str(step))
    refusal = await refused(client.steps.GetStep(request, timeout=PATIENCE_SECONDS))
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    found = await client.steps.GetStep(request, timeout=PATIENCE_SECONDS)
    assert found.step.step_uuid == str(step)


async def test_the_total_of_a_listing_is_that_of_its_tasks(
    client: Client, engine: Engine, meanwhile: Meanwhile
) -> None:
    await engine.register(chain(1))
    await client.create(context={"n": 1})
    meanwhile("SELECT count(*) FROM (SELECT FROM tasker.tasks", lambda: client.create(context={"n": 2}))
    for total in (1, 2):
        answer = await client.tasks.ListTasks(tasks_pb2.ListTasksRequest(), timeout=PATIENCE_SECONDS)
        assert (answer.pagination.total, len(answer.tasks)) == (total, total)


async def test_the_counts_of_namespaces_are_those_of_the_templates_listed(
    client: Client, engine: Engine, meanwhile: Meanwhile
) -> None:
    await engine.register(chain(1))
    meanwhile("count(t.named_task_uuid)", lambda: engine.register(chain(1) | {"version": "1.1.0"}))
    for total in (1, 2):
        answer = await client.templates.ListTemplates(
            templates_pb2.ListTemplatesRequest(), timeout=PATIENCE_SECONDS
        )
        assert (answer.total_count, len(answer.templates)) == (total, total)
        assert [namespace.template_count for namespace in answer.namespaces] == [total]


async def test_no_version_is_unknown_and_known_at_once(
    client: Client, engine: Engine, meanwhile: Meanwhile
) -> None:
    template = await engine.register(chain(1))
    key = {"namespace": template.namespace_name, "name": template.name, "version": "1.1.0"}

    async def register() -> None:
        await engine.register(chain(1) | {"version": "1.1.0"})

    meanwhile("AS document", register)
    refusal = await refused(
        client.templates.GetTemplate(templates_pb2.GetTemplateRequest(**key), timeout=PATIENCE_SECONDS)
    )
    assert (refusal.code, refusal.facts["known_versions"]) == (StatusCode.NOT_FOUND, "1.0.0")
    await client.templates.GetTemplate(templates_pb2.GetTemplateRequest(**key), timeout=PATIENCE_SECONDS)


async def test_no_task_is_created_of_a_version_that_was_unknown_and_known_at_once(
    client: Client, engine: Engine, meanwhile: Meanwhile
) -> None:
    template = await engine.register(chain(1))

    async def register() -> None:
        await engine.register(chain(1) | {"version": "1.1.0"})

    meanwhile("AS document", register)
    request = tasks_pb2.CreateTaskRequest(
        namespace=template.namespace_name, name=template.name, version="1.1.0"
    )
    refusal = await refused(client.tasks.CreateTask(request, timeout=PATIENCE_SECONDS))
    assert (refusal.reason, refusal.facts["known_versions"]) == ("TEMPLATE_NOT_FOUND", "1.0.0")
    await client.tasks.CreateTask(request, timeout=PATIENCE_SECONDS)


async def test_a_stream_does_not_end_for_failures_that_have_been_repaired(
    client: Client, engine: Engine, meanwhile: Meanwhile
) -> None:
    task = await engine.create(chain(1))
    (claimed,) = await engine.claim()
    await engine.fail(claimed, retryable=False)

    async def blocked() -> bool:
        return await engine.state(task) == "blocked_by_failures"

    await until(blocked)

    async def repair() -> None:
        await engine.operators.reset_for_retry(task, claimed.step_uuid, performed_by="sam", reason="mended")

    meanwhile("pg_current_snapshot", repair)
    stream = client.stream(str(task))
    first = await read(stream)
    assert first.task_state == common_pb2.TASK_STATE_BLOCKED_BY_FAILURES
    await engine.run(task)
    updates = [update async for update in stream]
    assert updates[-1].update_type == tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_COMPLETE


async def test_a_message_does_not_wait_and_lie_with_the_poison_at_once(
    client: Client, orchestration: OrchestrationService, engine: Engine, meanwhile: Meanwhile
) -> None:
    for runner in orchestration._orchestrator._runners:
        await runner.stop()
    await send_by_hand(engine, RESULTS_QUEUE, {"task_uuid": "garbled"})

    async def record() -> None:
        (message,) = await engine.orchestration.visible(RESULTS_QUEUE, 10)
        await engine.orchestration.record_poison(RESULTS_QUEUE, message, "ValueError: garbled")

    meanwhile("visible_messages_v1", record)
    for waiting in (1, 0):
        answer = await client.health.CheckDetailedHealth(
            health_pb2.DetailedHealthRequest(), timeout=PATIENCE_SECONDS
        )
        assert answer.checks.queue_depth.message == f"{waiting} results wait"
        assert answer.checks.poison_messages.message.startswith(f"{1 - waiting} recorded in the last hour")
