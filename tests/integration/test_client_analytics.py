"""The client's analytics and the service's settings, async and sync."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tasker.client import InvalidArgumentError, StepState, SyncTaskerClient, TaskerClient, TaskState
from tasker.orchestration.service import OrchestrationService
from tasker.version import VERSION
from tasker.worker import PermanentError, StepContext
from tests.support.engine import chain
from tests.support.waiting import within
from tests.support.workshop import Workshop


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(1), chain(1) | {"name": "fragile"}]


async def _run(client: TaskerClient, name: str, count: int) -> None:
    for _ in range(count):
        task = await client.create("test", name)
        await within(client.wait(task.task_uuid))


async def test_work_that_went_well_and_work_that_did_not(client: TaskerClient, workshop: Workshop) -> None:
    await _run(client, "workflow", 3)

    def fail(_: StepContext) -> object:
        raise PermanentError("no")

    workshop.behaviours["s1"] = fail
    await _run(client, "fragile", 1)
    metrics = await client.analytics.metrics(hours=2)
    assert (metrics.total, metrics.completed, metrics.failed, metrics.active) == (4, 3, 1, 1)
    assert (metrics.completion_rate, metrics.error_rate) == (0.75, 0.25)
    assert metrics.at - metrics.since == timedelta(hours=2)
    assert not metrics.is_partial
    found = await client.analytics.bottlenecks(min_executions=1, limit=5)
    assert {(step.template, step.step, step.executions, step.failures) for step in found.steps} == {
        ("workflow", "s1", 3, 0),
        ("fragile", "s1", 1, 1),
    }
    assert {(task.template, task.executions, task.failures) for task in found.tasks} == {
        ("workflow", 3, 0),
        ("fragile", 1, 1),
    }
    assert found.task_states[TaskState.COMPLETE] == 3
    assert found.step_states[StepState.ERROR] == 1
    assert 0 <= found.pool_utilization <= 1
    assert [hint.split(":")[0] for hint in found.recommendations] == ["25% of the executions fail"]
    with pytest.raises(InvalidArgumentError):
        await client.analytics.metrics(hours=-1)


async def test_the_service_says_how_it_is_set(
    client: TaskerClient, orchestration: OrchestrationService
) -> None:
    config = await client.config.get()
    assert (config.version, config.messaging, config.deployment_mode) == (VERSION, "pgmq", "Hybrid")
    assert config.queues
    assert not config.auth.enabled


async def test_programs_without_asyncio_get_the_same(
    client: TaskerClient, orchestration: OrchestrationService
) -> None:
    def ask() -> tuple[object, object, object]:
        with SyncTaskerClient(orchestration.address) as sync:
            return sync.analytics.metrics(), sync.analytics.bottlenecks().task_states, sync.config.get()

    answers = await asyncio.to_thread(ask)
    assert answers == (
        await client.analytics.metrics(),
        (await client.analytics.bottlenecks()).task_states,
        await client.config.get(),
    )
