"""The plans of DLQ entries and of detection: blocked tasks are hot, and the rest reads no finished task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tasker.domain.staleness import Reaction, StalenessLimits
from tasker.orchestration.loops.give_up import GiveUpLoop
from tasker.orchestration.loops.unserved import UnservedLoop
from tests.integration.schema.test_plans import explaining, grow
from tests.support.engine import Engine
from tests.support.stuck import Detection, minutes, stuck_task

pytestmark = pytest.mark.own_database

__all__ = ["explaining"]  # a fixture

BOTH = Reaction(adds_entry=True, fails=True)
#: Read as a whole, by design: open tasks, and pending entries.
WALKED = ("all of tasks_open_idx read", "all of tasks_dlq_one_pending_idx read")


async def _stuck_task(engine: Engine) -> UUID:
    task = await stuck_task(engine)
    await minutes(engine, 31)
    return task


async def _look(engine: Engine, detection: Detection, task: UUID) -> None:
    """Go through everything once."""
    await engine.sessions.execute("SELECT tasker.add_blocked_entries_v1(%s)", ([task],))
    await detection.dlq.page()
    await detection.dlq.newest_of(task)
    await detection.dlq.queue()
    await detection.staleness.tasks(StalenessLimits())
    await engine.sql("DELETE FROM tasker.tasks_dlq RETURNING 1")
    (stale,) = await detection.stale(StalenessLimits(), 1)
    await detection.close_stale(stale, StalenessLimits(), BOTH)
    await UnservedLoop(detection.sessions, grace=timedelta(0), group_size=1).tick()
    await GiveUpLoop(detection.sessions, age=timedelta(0), group_size=1).tick()


@pytest.mark.parametrize("statistics", [False, True])
async def test_dlq_entries_do_not_depend_on_statistics(
    any_database_url: str, explaining: Callable[[], Any], statistics: bool
) -> None:
    """Sessions that have planned while the tables were tiny, known to be so or not, go on while they grow."""
    async with explaining() as (engine, plans):
        detection = Detection(engine)
        for _ in range(7):  # PostgreSQL keeps a plan after a few times
            await _look(engine, detection, await _stuck_task(engine))
        if statistics:
            async with engine.database.connection() as connection:
                await connection.execute("ANALYZE")
            await _look(engine, detection, await _stuck_task(engine))
        await grow(any_database_url, 500)
        task = await _stuck_task(engine)
        plans.used.clear()
        await _look(engine, detection, task)
        assert [flaw for flaw in plans.flaws() if not flaw.startswith(WALKED)] == []
        await detection.close()
