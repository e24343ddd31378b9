"""The plans of DLQ entries and of detection: blocked tasks are hot, and the rest reads no finished task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tasker.domain.staleness import Reaction, StalenessLimits
from tasker.orchestration.loops.give_up import GiveUpLoop
from tasker.orchestration.loops.unserved import UnservedLoop
from tasker.persistence.reading.audit import AuditReader
from tasker.persistence.reading.dlq import LastEntry
from tasker.persistence.reading.staleness import LastStaleness
from tasker.persistence.reading.summaries import SummaryReader
from tests.integration.schema.test_plans import explaining, grow
from tests.support.engine import Engine, chain
from tests.support.stuck import Detection, minutes, stuck_task

pytestmark = pytest.mark.own_database

__all__ = ["explaining"]  # a fixture

BOTH = Reaction(adds_entry=True, fails=True)
#: Read as a whole, by design: open tasks, and pending entries; of all entries as many as are counted.
WALKED = (
    "all of tasks_open_idx read",
    "all of tasks_dlq_one_pending_idx read",
    "all of tasks_dlq_timestamp_idx read",
)


@dataclass(frozen=True)
class StuckTasks:
    """One that has been in process for too long, one that failures block, one in backoff."""

    stale: UUID
    blocked: UUID
    retrying: UUID


async def _stuck_tasks(engine: Engine) -> StuckTasks:
    stale = await stuck_task(engine)
    await minutes(engine, 31)
    blocked, retrying = [await engine.create(chain(1) | {"name": "fails"}) for _ in range(2)]
    claimed = {step.task_uuid: step for step in await engine.claim()}
    await engine.fail(claimed[blocked], retryable=False)
    await engine.fail(claimed[retrying])
    await engine.judgements.tick()
    return StuckTasks(stale, blocked, retrying)


async def _look(engine: Engine, detection: Detection, stuck: StuckTasks) -> None:
    """Go through everything once."""
    task = stuck.stale
    await engine.sessions.execute("SELECT tasker.add_blocked_entries_v1(%s)", ([task],))
    (entry,) = (await detection.dlq.page(limit=1)).rows
    await detection.dlq.page(after=LastEntry(entry.dlq_timestamp, entry.dlq_entry_uuid))
    await detection.dlq.newest_of(task)
    (queued,) = (await detection.dlq.queue(limit=1)).rows
    await detection.dlq.queue(after=LastEntry(queued.urgent_since, queued.dlq_entry_uuid))
    (near,) = (await detection.staleness.tasks(StalenessLimits(), limit=1)).rows
    last = LastStaleness(near.read_at, near.health, near.time_in_state_minutes, near.task_uuid)
    await detection.staleness.tasks(StalenessLimits(), after=last)
    await _look_at_task(engine, stuck)
    await engine.sql("DELETE FROM tasker.tasks_dlq RETURNING 1")
    (stale,) = await detection.stale(StalenessLimits(), 1)
    await detection.close_stale(stale, StalenessLimits(), BOTH)
    await UnservedLoop(detection.sessions, grace=timedelta(0), group_size=1).tick()
    await GiveUpLoop(detection.sessions, age=timedelta(0), group_size=1).tick()


async def _look_at_task(engine: Engine, stuck: StuckTasks) -> None:
    """Read all that a person wants to know of a task."""
    (step,) = (await engine.reader.steps(stuck.stale)).steps
    assert (await AuditReader(engine.database).of(stuck.stale, step.step_uuid, limit=5)).page.total == 1
    for task in (stuck.blocked, stuck.retrying):
        record = await engine.reader.get(task)
        assert record is not None
        assert record.failing_step is not None
        await SummaryReader(engine.database).summary(task)


@pytest.mark.parametrize("statistics", [False, True])
async def test_dlq_entries_do_not_depend_on_statistics(
    any_database_url: str, explaining: Callable[[], Any], statistics: bool
) -> None:
    """Sessions that have planned while the tables were tiny, known to be so or not, go on while they grow."""
    async with explaining() as (engine, plans):
        detection = Detection(engine)
        for _ in range(7):  # PostgreSQL keeps a plan after a few times
            await _look(engine, detection, await _stuck_tasks(engine))
        if statistics:
            async with engine.database.connection() as connection:
                await connection.execute("ANALYZE")
            await _look(engine, detection, await _stuck_tasks(engine))
        await grow(any_database_url, 500)
        stuck = await _stuck_tasks(engine)
        plans.used.clear()
        await _look(engine, detection, stuck)
        assert [flaw for flaw in plans.flaws() if not flaw.startswith(WALKED)] == []
        await detection.close()
