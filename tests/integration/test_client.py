"""The typed client against the real services: create, read, watch, wait."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasker.client import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    StepState,
    StepUpdate,
    TaskerClient,
    TaskState,
    TaskUpdate,
)
from tasker.worker import PermanentError, StepContext
from tasker.worker.service import WorkerService
from tests.support import services
from tests.support.engine import chain, diamond
from tests.support.waiting import within
from tests.support.workshop import Gate, Workshop

HUGE = 2**63 + 1

STRICT = chain(1) | {"name": "strict", "identity_strategy": "strict"}
LATER = STRICT | {"version": "1.10.0"}


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(3), diamond() | {"name": "diamond"}, STRICT, LATER]


async def test_a_task_is_created_and_waited_for(client: TaskerClient) -> None:
    created = await client.create("test", "workflow", {"number": 1}, tags=["a"], priority=3)
    assert (created.namespace, created.name, created.version) == ("test", "workflow", "1.0.0")
    assert created.total_steps == 3
    settled = await client.wait(created.task_uuid, timeout=30)
    assert settled.state is TaskState.COMPLETE
    assert (settled.context, settled.tags, settled.priority) == ({"number": 1}, ("a",), 3)
    assert settled.completion_percentage == 100
    assert settled.completed_at is not None
    assert [step.name for step in settled.steps] == ["s1", "s2", "s3"]
    assert all(step.state is StepState.COMPLETE for step in settled.steps)
    assert settled.step("s2").result == {"step": "s2"}


async def test_a_task_is_read_with_or_without_its_steps(client: TaskerClient) -> None:
    created = await client.create("test", "workflow")
    await client.wait(created.task_uuid, timeout=30)
    assert (await client.get(created.task_uuid)).steps == ()
    with_steps = await client.get(str(created.task_uuid), steps=True)
    assert with_steps.steps == await client.steps(created.task_uuid)


async def test_numbers_beyond_doubles_survive_the_round_trip(
    client: TaskerClient, workshop: Workshop
) -> None:
    workshop.behaviours["s1"] = lambda context: {"number": context.get_input("number") + 1}
    created = await client.create("test", "workflow", {"number": HUGE})
    assert created.context == {"number": HUGE}
    settled = await client.wait(created.task_uuid, timeout=30)
    assert settled.step("s1").result == {"number": HUGE + 1}


async def test_every_step_is_watched_from_the_start(client: TaskerClient) -> None:
    created = await client.create("test", "workflow")
    await client.wait(created.task_uuid, timeout=30)
    updates = [update async for update in client.watch(created.task_uuid, steps=True, from_start=True)]
    passed = [
        StepState.ENQUEUED,
        StepState.IN_PROGRESS,
        StepState.ENQUEUED_FOR_ORCHESTRATION,
        StepState.COMPLETE,
    ]
    for name in ("s1", "s2", "s3"):
        assert [u.state for u in updates if isinstance(u, StepUpdate) and u.name == name] == passed
    tasks = [update for update in updates if isinstance(update, TaskUpdate)]
    assert [update.is_last for update in tasks] == [False] * (len(tasks) - 1) + [True]
    assert tasks[-1] is updates[-1]
    assert tasks[-1].state is TaskState.COMPLETE


async def test_without_the_past_the_first_update_is_the_present(
    client: TaskerClient, workshop: Workshop
) -> None:
    gate = Gate()
    workshop.behaviours["s1"] = gate
    created = await client.create("test", "workflow")
    await within(gate.entered.wait())
    updates = client.watch(created.task_uuid)
    first = await anext(updates)
    assert isinstance(first, TaskUpdate)
    assert (first.state, first.is_last) == (TaskState.STEPS_IN_PROCESS, False)
    gate.opened.set()
    rest = [update async for update in updates]
    assert rest[-1].state is TaskState.COMPLETE


async def test_a_blocked_task_is_settled_and_says_why(client: TaskerClient, workshop: Workshop) -> None:
    def decline(context: StepContext) -> object:
        raise PermanentError("the bank declined", error_code="DECLINED")

    workshop.behaviours["left"] = decline
    created = await client.create("test", "diamond")
    settled = await client.wait(created.task_uuid, timeout=30)
    assert settled.state is TaskState.BLOCKED_BY_FAILURES
    assert settled.execution_status == "blocked_by_failures"
    failed = settled.step("left")
    assert (failed.state, failed.attempts, failed.result) == (StepState.ERROR, 1, None)
    assert failed.error is not None
    assert failed.error["message"] == "the bank declined"
    last = [update async for update in client.watch(created.task_uuid)][-1]
    assert isinstance(last, TaskUpdate)
    assert last.is_last
    assert "the bank declined" in str(last.error_message)


async def test_waiting_for_a_task_that_goes_on(client: TaskerClient, workshop: Workshop) -> None:
    gate = Gate()
    workshop.behaviours["s1"] = gate
    created = await client.create("test", "workflow")
    await within(gate.entered.wait())
    with pytest.raises(TimeoutError, match="it goes on"):
        await client.wait(created.task_uuid, timeout=0.2)
    gate.opened.set()
    assert (await client.wait(created.task_uuid, timeout=30)).state is TaskState.COMPLETE


async def test_an_equal_task_conflicts_and_a_key_replays(client: TaskerClient) -> None:
    await client.create("test", "strict", {"a": 1, "b": 2})
    with pytest.raises(AlreadyExistsError) as caught:
        await client.create("test", "strict", {"b": 2, "a": 1})
    assert caught.value.reason == "IDENTITY_CONFLICT"
    first = await client.create("test", "strict", {"a": 2}, idempotency_key="k")
    again = await client.create("test", "strict", {"a": 2}, idempotency_key="k")
    assert (first.already_existed, again.already_existed) == (False, True)
    assert first.task_uuid == again.task_uuid


async def test_an_empty_version_is_the_highest(client: TaskerClient) -> None:
    assert (await client.create("test", "strict", {"n": 1})).version == "1.10.0"
    assert (await client.create("test", "strict", {"n": 1}, version="1.0.0")).version == "1.0.0"


async def test_an_unknown_template_names_the_known_versions(client: TaskerClient) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await client.create("test", "strict", version="9.9.9")
    assert caught.value.reason == "TEMPLATE_NOT_FOUND"
    assert set(caught.value.metadata["known_versions"].split(",")) == {"1.0.0", "1.10.0"}


async def test_an_unknown_task_is_not_found_by_any_call(client: TaskerClient) -> None:
    nobody = uuid4()
    with pytest.raises(NotFoundError):
        await client.get(nobody)
    with pytest.raises(NotFoundError):
        await client.steps(nobody)
    with pytest.raises(NotFoundError):
        await client.wait(nobody, timeout=30)
    with pytest.raises(NotFoundError):
        await anext(client.watch(nobody))


async def test_a_watcher_outlives_its_orchestrator(
    database_url: str, workshop: Workshop, tmp_path: Path
) -> None:
    """It sees every change once, those of the time when no orchestrator ran included."""
    address = f"unix:{tmp_path}/o.sock"
    gate = Gate()
    workshop.behaviours["s2"] = gate
    folder = services.write_templates(tmp_path / "templates", chain(3))
    told: list[tuple[str, StepState]] = []
    running = asyncio.Event()

    async def watch(client: TaskerClient, task_uuid: UUID) -> TaskState:
        async for update in client.watch(task_uuid, steps=True, from_start=True):
            if isinstance(update, StepUpdate):
                told.append((update.name, update.state))
                if told[-1] == ("s2", StepState.IN_PROGRESS):
                    running.set()
            elif update.is_last:
                return update.state
        raise AssertionError("the stream ended without a last update")

    async with TaskerClient(address) as client, services.worker(database_url, workshop.registry, folder):
        async with services.orchestration(database_url, bind_address=address):
            created = await client.create("test", "workflow")
            watching = asyncio.create_task(watch(client, created.task_uuid))
            await within(running.wait())
        gate.opened.set()
        async with services.orchestration(database_url, bind_address=address):
            assert await within(watching) is TaskState.COMPLETE
    assert len(told) == len(set(told)) == 3 * 4


async def test_a_call_waits_for_an_orchestrator_to_come(
    database_url: str, worker: WorkerService, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/o.sock"
    async with TaskerClient(address) as client:
        creating = asyncio.create_task(client.create("test", "workflow", idempotency_key="once"))
        async with services.orchestration(database_url, bind_address=address):
            assert not (await within(creating)).already_existed
