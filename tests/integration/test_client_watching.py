"""The typed client watches, against the real services: one task, all tasks, and very many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tasker.client import (
    Heartbeat,
    InvalidArgumentError,
    StepState,
    StepUpdate,
    SyncTaskerClient,
    TaskerClient,
    TaskState,
    TaskUpdate,
    WatchedUpdate,
)
from tasker.orchestration.service import OrchestrationService
from tests.support.engine import chain
from tests.support.waiting import until, within
from tests.support.workshop import Gate, Workshop


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(3)]


async def test_a_watch_begins_with_the_present(client: TaskerClient, workshop: Workshop) -> None:
    gate = workshop.behaviours["s2"] = Gate()
    created = await client.create("test", "workflow", {"secret": "x"}, tags=["a"])
    await within(gate.entered.wait())
    updates = client.watch(created.task_uuid, steps=True)
    first = await within(anext(updates))
    assert isinstance(first, TaskUpdate)
    assert first.task is not None
    assert (first.task.task_uuid, first.task.tags, first.task.context) == (created.task_uuid, ("a",), {})
    assert {step.name: step.state for step in first.steps} == {
        "s1": StepState.COMPLETE,
        "s2": StepState.IN_PROGRESS,
        "s3": StepState.PENDING,
    }
    gate.opened.set()
    rest = [update async for update in updates]
    assert isinstance(rest[-1], TaskUpdate)
    assert rest[-1].is_last
    assert {update.name for update in rest if isinstance(update, StepUpdate)} == {"s2", "s3"}


async def test_another_process_goes_on_with_a_cursor(
    client: TaskerClient, orchestration: OrchestrationService, workshop: Workshop
) -> None:
    gate = workshop.behaviours["s1"] = Gate()
    created = await client.create("test", "workflow")
    await within(gate.entered.wait())
    updates = client.watch(created.task_uuid)
    cursor = (await within(anext(updates))).cursor
    await updates.aclose()
    gate.opened.set()
    async with TaskerClient(orchestration.address) as other:
        rest = [update async for update in other.watch(created.task_uuid, resume_cursor=cursor)]
        assert [update.state for update in rest] == [TaskState.COMPLETE, TaskState.COMPLETE]
        strange = await other.create("test", "workflow", {"another": 1})
        with pytest.raises(InvalidArgumentError, match="resume_cursor"):
            await anext(other.watch(strange.task_uuid, resume_cursor=cursor))


async def test_chosen_steps_and_signs_of_life(client: TaskerClient, workshop: Workshop) -> None:
    gate = workshop.behaviours["s3"] = Gate()
    created = await client.create("test", "workflow")
    await within(gate.entered.wait())
    updates = client.watch(created.task_uuid, step_names=["s2", "s3"], from_start=True, heartbeat_seconds=1)
    told = [await within(anext(updates))]
    while not isinstance(told[-1], Heartbeat):
        told.append(await within(anext(updates)))
    assert {update.name for update in told if isinstance(update, StepUpdate)} == {"s2", "s3"}
    gate.opened.set()
    assert [type(update) async for update in updates][-1] is TaskUpdate


async def test_hundreds_of_watches_hold_no_call_up(client: TaskerClient, workshop: Workshop) -> None:
    """More than two connections' worth of them."""
    gate = workshop.behaviours["s1"] = Gate()
    created = await client.create("test", "workflow")
    await within(gate.entered.wait())
    watches = [client.watch(created.task_uuid) for _ in range(1100)]
    await within(asyncio.gather(*(anext(watch) for watch in watches)))
    assert (await within(client.get(created.task_uuid))).state is TaskState.STEPS_IN_PROCESS
    gate.opened.set()
    last = await within(asyncio.gather(*map(_last, watches)))
    assert {update.state for update in last} == {TaskState.COMPLETE}


async def _last(watch: AsyncGenerator[TaskUpdate | StepUpdate, None]) -> TaskUpdate | StepUpdate:
    return [update async for update in watch][-1]


async def test_all_tasks_are_watched(client: TaskerClient) -> None:
    updates = client.watch_tasks(namespace="test", name="workflow", tags=["mine"], steps=True)
    begun = await within(anext(updates))
    assert begun.update is None
    created = [await client.create("test", "workflow", {"n": n}, tags=["mine"]) for n in range(3)]
    await client.create("test", "workflow", {"n": 3})
    left, told = {task.task_uuid for task in created}, []
    while left:
        told.append(await within(anext(updates)))
        update = told[-1].update
        if isinstance(update, TaskUpdate) and update.state is TaskState.COMPLETE:
            left.remove(update.task_uuid)
    assert {(one.namespace, one.name) for one in told} == {("test", "workflow")}
    seen = [one.update for one in told if one.update]
    assert {update.task_uuid for update in seen} == {task.task_uuid for task in created}
    steps = [update for update in seen if isinstance(update, StepUpdate)]
    assert len(steps) == 3 * 3 * 4  # enqueued, in progress, submitted, complete
    await updates.aclose()


async def test_all_tasks_are_watched_without_asyncio(
    client: TaskerClient, orchestration: OrchestrationService
) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> list[WatchedUpdate]:
        with SyncTaskerClient(orchestration.address) as sync:
            told = []
            for update in sync.watch_tasks(states=[TaskState.COMPLETE]):
                told.append(update)
                loop.call_soon_threadsafe(begun.set)
                if len(told) == 3:
                    return told
            return told

    watching = asyncio.create_task(asyncio.to_thread(work))
    await within(begun.wait())
    created = [await client.create("test", "workflow", {"n": n}) for n in range(2)]
    told = await within(watching)
    assert {one.update.task_uuid for one in told if one.update} == {task.task_uuid for task in created}


async def test_a_watch_that_is_left_makes_room(
    client: TaskerClient, orchestration: OrchestrationService, workshop: Workshop
) -> None:
    gate = workshop.behaviours["s1"] = Gate()
    created = await client.create("test", "workflow")
    watches = [client.watch(created.task_uuid) for _ in range(5)]
    for watch in watches:
        await within(anext(watch))
    assert orchestration._streams.count == 5
    for watch in watches:
        await watch.aclose()
    await until(lambda: orchestration._streams.count == 0)
    gate.opened.set()
