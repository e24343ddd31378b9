"""Both clients are typed, so wrong use of them fails type checking."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.type_checking import assert_only_marked_lines_fail

RIGHT = """
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from uuid import UUID
from tasker.client import (
    Cancellation, Health, Heartbeat, NotFoundError, Step, StepUpdate, SyncTaskerClient, Task, TaskerClient, TaskPage,
    TaskQuery, TaskState, TaskUpdate, Template, TemplateListing, WatchedUpdate,
)

FAILED: TaskQuery = {"namespace": "shop", "states": [TaskState.ERROR]}

async def use(client: TaskerClient) -> None:
    task: Task = await client.create("shop", "checkout", {"a": 1}, priority=3, tags=["x"], timeout=2)
    async for listed in client.list(namespace="shop", states=[TaskState.ERROR], sort="priority", ascending=True):
        uuid: UUID = listed.task_uuid
    page: TaskPage = await client.page(size=10, token=None, **FAILED)
    page = await client.page(created_after=datetime.now(UTC), context=False)
    cancelled: Cancellation = await client.cancel(task.task_uuid, reason="x", requested_by="ada")
    step: Step = await client.step(task.task_uuid, "u")
    templates: TemplateListing = await client.templates()
    template: Template = await client.template("shop", "checkout")
    health: Health = await client.health("ready")
    print(uuid, page.total, cancelled.success, step.state, templates, template, health)

def use_sync() -> None:
    with SyncTaskerClient("unix:/run/tasker.sock", timeout_seconds=5) as client:
        task: Task = client.create("shop", "checkout", {"a": 1}, priority=3, tags=["x"], timeout=2)
        for listed in client.list(namespace="shop", states=[TaskState.ERROR], sort="priority"):
            uuid: UUID = listed.task_uuid
        updates: Generator[TaskUpdate | StepUpdate, None, None] = client.watch(task.task_uuid, steps=True)
        health: Health = client.health()
        try:
            task = client.wait(task.task_uuid, timeout=3)
        except NotFoundError as error:
            print(error.violations[0].field, error.retry_after_seconds, error.metadata["task_uuid"])
        print(uuid, next(updates), health.checks["queue_depth"].message)
        for signs in client.watch(task.task_uuid, step_names=["a"], heartbeat_seconds=3):
            seen: TaskUpdate | StepUpdate | Heartbeat = signs
        for one in client.watch_tasks(namespace="shop", states=[TaskState.ERROR], steps=True):
            watched: WatchedUpdate = one
        print(seen.cursor, watched.update)
"""

WRONG = """
from tasker.client import SyncTaskerClient, Task, TaskerClient

async def use(client: TaskerClient) -> None:
    await client.create("shop")                          # 4 no name
    await client.create("shop", "checkout", [1])         # 5 a context that is no object
    await client.create("shop", "checkout", prio=3)      # 6 no such argument
    await client.page(namspace="shop")                   # 7 no such filter
    async for task in client.list(states=["error"]):     # 8 text for a state
        task.state = None                                # 9 frozen, and no state
    await client.page(sort="age")                        # 10 nothing to sort by
    await client.health("perfect")                       # 11 no such probe
    found: str = await client.get("u")                   # 12 a task
    client.cancel("u").success                           # 13 not awaited

def use_sync(client: SyncTaskerClient) -> None:
    client.create("shop")                                # 16 no name
    client.create("shop", "checkout", prio=3)            # 17 no such argument
    for _ in client.list(namspace="shop"): ...           # 18 no such filter
    client.health("perfect")                             # 19 no such probe
    task: Task = client.page()                           # 20 a page
    for update in client.watch(3): ...                   # 21 no uuid
    client.steps("u").result                             # 22 several steps
    for beat in client.watch("u", heartbeat_seconds=1): beat.state  # 23 a sign of life has none
    client.watch_tasks(states=["error"])                 # 24 text for a state
"""


def test_wrong_use_fails_type_checking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_only_marked_lines_fail(RIGHT, WRONG, tmp_path, monkeypatch)
