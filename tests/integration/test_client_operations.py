"""The client's listings, single steps, templates, health and cancelling against the real services, async and sync."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tasker.client import (
    InvalidArgumentError,
    NotFoundError,
    StepState,
    SyncTaskerClient,
    TaskerClient,
    TaskState,
    UnavailableError,
)
from tasker.orchestration.service import OrchestrationService
from tests.support.engine import chain, diamond
from tests.support.outages import outage
from tests.support.waiting import within
from tests.support.workshop import Gate, Workshop

SCHEMA = {"type": "object", "properties": {"number": {"type": "integer"}}}
OLDER = chain(1) | {"version": "0.9.0", "description": "one step", "input_schema": SCHEMA}


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(2), OLDER, diamond() | {"name": "diamond"}]


# Listing


async def test_a_listing_goes_over_all_pages(client: TaskerClient) -> None:
    created = [await client.create("test", "workflow", {"n": n}) for n in range(7)]
    everything = [task.task_uuid async for task in client.list(page_size=2)]
    assert everything == [task.task_uuid for task in reversed(created)]
    page = await client.page(size=3)
    assert ([task.task_uuid for task in page.tasks], page.total) == (everything[:3], 7)
    rest = await client.page(size=100, token=page.next_token)
    assert ([task.task_uuid for task in rest.tasks], rest.next_token) == (everything[3:], None)
    assert (await anext(client.list(page_size=3))).context == {"n": 6}
    assert {str(task.context) async for task in client.list(context=False)} == {"{}"}


async def test_what_is_created_while_listing_neither_repeats_nor_hides(client: TaskerClient) -> None:
    created = [await client.create("test", "workflow") for _ in range(4)]
    listed = []
    async for task in client.list(page_size=2):
        listed.append(task.task_uuid)
        await client.create("test", "workflow")
    assert listed == [task.task_uuid for task in reversed(created)]


async def test_every_filter_finds_its_task_alone(client: TaskerClient) -> None:
    tie, cause = uuid4(), uuid4()
    wanted = await client.create(
        "test", "diamond", tags=["a", "b"], initiator="ada", source_system="web", priority=5,
        correlation_id=tie, parent_correlation_id=cause,
    )  # fmt: skip
    await client.wait(wanted.task_uuid, timeout=30)
    before = datetime.now(UTC)
    other = await client.create("test", "workflow", tags=["a", "c"])
    await client.wait(other.task_uuid, timeout=30)

    async def found(**query: object) -> list[bool]:
        listed = [task async for task in client.list(**query)]  # type: ignore[arg-type]
        return [task.task_uuid == wanted.task_uuid for task in listed]

    assert await found(name="diamond") == [True]
    assert await found(tags=["a", "b"]) == [True]
    assert await found(tags_any=["b", "x"]) == [True]
    assert await found(initiator="ada") == [True]
    assert await found(source_system="web") == [True]
    assert await found(correlation_id=tie) == [True]
    assert await found(parent_correlation_id=str(cause)) == [True]
    assert await found(created_before=before) == [True]
    assert await found(updated_before=before) == [True]
    assert await found(created_after=before) == [False]
    assert await found(updated_after=before) == [False]
    assert await found(namespace="test", states=[TaskState.COMPLETE, TaskState.ERROR]) == [False, True]
    assert await found(states=[TaskState.ERROR]) == []
    assert await found(sort="priority") == [True, False]
    assert await found(sort="priority", ascending=True) == [False, True]
    assert await found(created_after=before + timedelta(days=1)) == []


async def test_a_token_of_another_listing_is_refused(client: TaskerClient) -> None:
    for _ in range(3):
        await client.create("test", "workflow")
    page = await client.page(size=1)
    with pytest.raises(InvalidArgumentError, match="page_token"):
        await client.page(size=1, token=page.next_token, sort="priority")


# The others


async def test_a_step_is_found_by_its_task(client: TaskerClient) -> None:
    created = await client.create("test", "workflow")
    settled = await client.wait(created.task_uuid, timeout=30)
    first = settled.steps[0]
    assert await client.step(settled.task_uuid, first.step_uuid) == first
    with pytest.raises(NotFoundError):
        await client.step(settled.task_uuid, uuid4())
    other = await client.create("test", "workflow")
    with pytest.raises(InvalidArgumentError, match="belongs to another task"):
        await client.step(other.task_uuid, first.step_uuid)


async def test_templates_are_listed_and_read(client: TaskerClient) -> None:
    listing = await client.templates()
    assert {(one.name, one.version, one.step_count) for one in listing.templates} == {
        ("workflow", "1.0.0", 2), ("workflow", "0.9.0", 1), ("diamond", "1.0.0", 4),
    }  # fmt: skip
    assert (listing.total_count, [one.name for one in listing.namespaces]) == (3, ["test"])
    assert (await client.templates("other")).templates == ()
    newest = await client.template("test", "workflow")
    assert (newest.version, [step.name for step in newest.steps]) == ("1.0.0", ["s1", "s2"])
    assert newest.steps[1].dependencies == ("s1",)
    assert newest.steps[1].handler == "work"
    older = await client.template("test", "workflow", "0.9.0")
    assert (older.description, older.input_schema) == ("one step", SCHEMA)
    with pytest.raises(NotFoundError) as caught:
        await client.template("test", "nothing")
    assert caught.value.reason == "TEMPLATE_NOT_FOUND"


async def test_a_cancelled_task_is_settled(client: TaskerClient, workshop: Workshop) -> None:
    workshop.behaviours["s1"] = gate = Gate()
    created = await client.create("test", "workflow")
    await within(gate.entered.wait())
    done = await client.cancel(created.task_uuid, reason="a mistake", requested_by="ada")
    assert (done.success, done.task.state) == (True, TaskState.CANCELLED)
    again = await client.cancel(created.task_uuid)
    assert (again.success, again.task.state) == (False, TaskState.CANCELLED)
    settled = await client.wait(created.task_uuid, timeout=30)
    assert settled.state is TaskState.CANCELLED
    assert {step.state for step in settled.steps} == {StepState.CANCELLED}
    with pytest.raises(NotFoundError):
        await client.cancel(uuid4())
    gate.opened.set()


@pytest.mark.own_database
async def test_health_tells_of_an_outage(client: TaskerClient, database_url: str) -> None:
    assert (await client.health("basic")).status == "healthy"
    assert (await client.health("ready")).status == "ready"
    well = await client.health()
    assert (well.status, well.checks["orchestration_database"].status) == ("healthy", "healthy")
    async with outage(database_url):
        with pytest.raises(UnavailableError) as caught:
            await client.health("ready")
        assert caught.value.retry_after_seconds is not None
        ill = await client.health()
    assert (ill.status, ill.checks["orchestration_database"].status) == ("degraded", "unhealthy")


# Without asyncio


async def test_threads_run_tasks_with_one_sync_client(
    client: TaskerClient, orchestration: OrchestrationService
) -> None:
    def run(sync: SyncTaskerClient, number: int) -> tuple[TaskState, list[str]]:
        task = sync.create("test", "workflow", {"number": number}, tags=["sync"])
        states = [str(update.state) for update in sync.watch(task.task_uuid, from_start=True)]
        return sync.wait(task.task_uuid, timeout=30).state, states

    def work() -> list[tuple[TaskState, list[str]]]:
        with SyncTaskerClient(orchestration.address) as sync, ThreadPoolExecutor(4) as pool:
            ended = list(pool.map(lambda number: run(sync, number), range(8)))
            assert len(list(sync.list(page_size=3, tags=["sync"]))) == 8
            return ended

    for state, states in await within(asyncio.to_thread(work)):
        assert state is TaskState.COMPLETE
        assert states[-1] == "complete"


async def test_a_context_beyond_what_the_transport_takes_is_refused_by_name(client: TaskerClient) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        await client.create("test", "workflow", {f"part_{n}": "x" * 9000 for n in range(1000)})
    assert [violation.field for violation in refusal.value.violations] == ["context"]
    assert "maximum 1048576" in str(refusal.value)
