"""The plans of what operators do and look at: they read what it is about, however much else there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tasker.orchestration.engine.namespaces import Namespaces
from tasker.orchestration.engine.poison import PoisonMessages
from tests.integration.schema.test_plans import explaining, grow
from tests.support.engine import Engine, chain
from tests.support.faults import send_by_hand

pytestmark = pytest.mark.own_database

__all__ = ["explaining"]  # a fixture

WHO = {"performed_by": "anna", "reason": "the bank is back"}
PAUSE = {"requested_by": "anna", "reason": "the bank is down"}
#: Read as a whole, by design: what is open, of which no more than 10,000 are read; the namespaces, whose queues are
#: listed; and, hashed, the queue in which lost messages are looked for.
WALKED = (
    "all of tasks_open_idx read",
    "all of task_namespaces_name_key read (no condition) in: -- Queues",
    "Hash Join in: SELECT array_agg(w.task_uuid), array_agg(w.step_uuid) FROM unnest",
)


async def _failed(engine: Engine) -> tuple[UUID, UUID]:
    task = await engine.create(chain(2) | {"name": "broken"})
    (step,) = await engine.claim()
    await engine.fail(step, retryable=False)
    await engine.process()
    return task, step.step_uuid


async def _look(engine: Engine) -> None:
    """Go through everything once."""
    task, step = await _failed(engine)
    assert await engine.operators.retry(task, **WHO) == ["s1"]
    assert await engine.operators.requeue(task, **WHO) == 0
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    async with engine.operators.together([task]) as operators:
        await operators.resolve_manually(task, step, **WHO)
    await engine.operators.cancel_together([task])

    queue = "worker_test_queue"
    for message in ({}, {"task_uuid": str(task), "step_uuid": str(step)}):
        await engine.worker.record_poison(queue, await send_by_hand(engine, queue, message), "odd")
    poison = PoisonMessages(engine.database, engine.operators)
    await poison.page(limit=10)
    await poison.page(task_uuid=task, before=10**9, limit=10)

    namespaces = Namespaces(engine.database)
    await namespaces.pause("test", **PAUSE)
    assert await engine.claim() == []
    await namespaces.queues()
    await namespaces.resume("test", requested_by="anna")
    await engine.templates.versions("test", "broken", limit=10)
    await engine.templates.version("test", "broken", "1.0.0")


@pytest.mark.parametrize("statistics", [False, True])
async def test_operations_do_not_depend_on_statistics(
    any_database_url: str, explaining: Callable[[], Any], statistics: bool
) -> None:
    """Sessions that have planned while the tables were tiny, known to be so or not, go on while they grow."""
    async with explaining() as (engine, plans):
        for _ in range(7):  # PostgreSQL keeps a plan after a few times
            await _look(engine)
        if statistics:
            async with engine.database.connection() as connection:
                await connection.execute("ANALYZE")
            await _look(engine)
        await grow(any_database_url, 500)
        plans.used.clear()
        await _look(engine)
        assert [flaw for flaw in plans.flaws() if not flaw.startswith(WALKED)] == []
