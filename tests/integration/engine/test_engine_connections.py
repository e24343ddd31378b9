"""However many requests come at once, an orchestrator takes a bounded number of connections (docs/operations.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from tasker.domain.errors import TaskerError
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.operations.renew import Lease
from tasker.persistence.reading.transitions import Line
from tests.support.engine import Engine, chain
from tests.support.rivals import rival, until


async def watch(engine: Engine, step: ClaimedStep) -> None:
    await engine.transitions.transitions([Line(step.task_uuid, True, None)])


async def cancel(engine: Engine, step: ClaimedStep) -> None:
    await engine.operators.cancel(step.task_uuid)


async def resolve(engine: Engine, step: ClaimedStep) -> None:
    with suppress(TaskerError):  # all but one come too late
        await engine.operators.resolve_manually(
            step.task_uuid, step.step_uuid, performed_by="sam", reason="enough"
        )


async def hydrate(engine: Engine, step: ClaimedStep) -> None:
    await engine.hydrate(step)


async def checkpoint(engine: Engine, step: ClaimedStep) -> None:
    await engine.checkpoint(Lease(step.task_uuid, step.step_uuid, step.lease_token), "{}")


@pytest.mark.own_database
@pytest.mark.parametrize(
    ("request_", "query"),
    [
        (watch, "committed on some tasks"),
        (cancel, "cancel_open_tasks_v1"),
        (resolve, "lock_step_v1"),
        (hydrate, "hydrate_step_v2"),
        (checkpoint, "checkpoint_step_v1"),
    ],
)
async def test_requests_that_come_at_once_share_four_connections(
    engine: Engine, request_: Callable[[Engine, ClaimedStep], Coroutine[Any, Any, None]], query: str
) -> None:
    await engine.create(chain(1))
    (step,) = await engine.claim()

    async def connections(condition: str = "true") -> int:
        ((count,),) = await engine.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            f"AND query LIKE '%%{query}%%' AND {condition}"
        )
        return int(count)

    async def four_wait() -> bool:
        return await connections("wait_event_type = 'Lock'") == 4

    async with rival(engine) as other:
        await other.sql("LOCK TABLE tasker.tasks, tasker.task_transitions, tasker.step_leases")
        requests = [asyncio.create_task(request_(engine, step)) for _ in range(12)]
        await until(four_wait, what="four connections that wait")
        await other.commit()
        await asyncio.gather(*requests)
    assert await connections() <= 4
