"""Stuck tasks, made on purpose, and detection on demand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from structlog.testing import capture_logs

from tasker.domain.staleness import Reaction, StalenessLimits
from tasker.orchestration.loops.staleness import DetectionRules, StalenessDetector
from tasker.persistence.operations.give_up import ClosedTask, close_stale_task
from tasker.persistence.operations.staleness import StaleTask, stale_tasks
from tasker.persistence.reading.dlq import DlqReader
from tasker.persistence.reading.staleness import StalenessReader, TaskStaleness
from tests.support.engine import Engine, chain

#: The states that have a limit of their own.
STUCK_STATES = ("waiting_for_dependencies", "waiting_for_retry", "steps_in_process")


INTERVAL = timedelta(seconds=30)


class Detection:
    """Detection on a test's database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.detecting = engine.database.session()
        self.sessions = engine.database.sessions()
        self.dlq = DlqReader(engine.database)
        self.staleness = StalenessReader(engine.database)

    async def close(self) -> None:
        """Close the sessions; the next calls open new ones."""
        await self.detecting.close()
        await self.sessions.close()

    async def detector(self, **rules: Any) -> StalenessDetector:
        """Return a detector that has waited for its first interval, as of now."""
        detector = StalenessDetector(
            self.detecting, self.sessions, DetectionRules(**{"interval": INTERVAL} | rules)
        )
        await self.close()
        await self.engine.move_clock(-INTERVAL.total_seconds())
        assert await detector.tick() == INTERVAL.total_seconds()
        await self.engine.move_clock(INTERVAL.total_seconds())
        return detector

    async def detect(self, **rules: Any) -> list[dict[str, Any]]:
        """Detect until no stale task is left; return the events."""
        detector = await self.detector(**rules)
        with capture_logs() as logs:
            while await detector.tick() == 0:
                pass
        return [dict(entry) for entry in logs if entry["event"] == "task_staleness_detected"]

    async def stale(self, limits: StalenessLimits, limit: int) -> list[StaleTask]:
        """Return stale tasks."""
        return await stale_tasks(self.sessions, limits, limit)

    async def close_stale(self, task: StaleTask, limits: StalenessLimits, reaction: Reaction) -> ClosedTask:
        """Do something about a stale task."""
        return await close_stale_task(self.sessions, task, limits, reaction)

    async def of(self, task: UUID, **limits: int) -> TaskStaleness:
        """Return what monitoring says about a task."""
        page = await self.staleness.tasks(StalenessLimits(**limits))
        (found,) = [row for row in page.rows if row.task_uuid == task]
        return found

    async def entries(self, task: UUID) -> list[tuple[str, str, str]]:
        """Return reason, original state and status of a task's entries, oldest first."""
        rows = await self.engine.sql(
            "SELECT dlq_reason, original_state, resolution_status FROM tasker.tasks_dlq "
            "WHERE task_uuid = %s ORDER BY dlq_timestamp, dlq_entry_uuid",
            task,
        )
        return [(reason, state, status) for reason, state, status in rows]


async def minutes(engine: Engine, count: float) -> None:
    """Let minutes pass."""
    await engine.move_clock(count * 60)


def template(lifecycle: Mapping[str, Any] | None = None, **step: Any) -> dict[str, Any]:
    """Return a template of one step; `lifecycle` as given."""
    return chain(1, **step) | ({} if lifecycle is None else {"lifecycle": dict(lifecycle)})


async def stuck_task(
    engine: Engine, state: str = "steps_in_process", lifecycle: Mapping[str, Any] | None = None
) -> UUID:
    """Create a task that is stuck in a state, its clock started now.

    In `steps_in_process` a result waits that nobody processes; in `waiting_for_retry` a retry is due; in
    `waiting_for_dependencies` its step waits for something that never comes.
    """
    document = template(lifecycle, retry={"backoff_base_ms": 1000})
    ((known,),) = await engine.sql("SELECT count(*) FROM tasker.named_tasks")
    task = await engine.create(document | {"version": f"1.0.{known}"})
    if state == "waiting_for_dependencies":
        await _unready(engine, task)
    else:
        (step,) = [step for step in await engine.claim() if step.task_uuid == task]
        await (engine.succeed(step) if state == "steps_in_process" else engine.fail(step))
    if state == "steps_in_process":
        await engine.sql("SELECT pgmq.purge_queue('orchestration_step_results')")
    elif state == "waiting_for_retry":
        await engine.process()
        await engine.database.execute(DUE.format("tasker.now()"), (task,))
    assert await engine.state(task) == state
    return task


#: Sets the instant at which the retry of a task is due.
DUE = (
    "WITH due AS (UPDATE tasker.workflow_steps SET next_retry_at = {0} WHERE task_uuid = %s RETURNING task_uuid) "
    "UPDATE tasker.tasks t SET wake_at = {0} FROM due WHERE t.task_uuid = due.task_uuid"
)


async def _unready(engine: Engine, task: UUID) -> None:
    """Have the one step of a new task wait for a parent that there is not."""
    await engine.sql("SELECT pgmq.purge_queue('worker_test_queue')")
    for statement in (
        "DELETE FROM tasker.workflow_step_transitions WHERE task_uuid = %s",
        "UPDATE tasker.workflow_steps SET state = 'pending', sort_key = 0, total_parents = 1, unmet_parents = 1 "
        "WHERE task_uuid = %s",
        "WITH task AS (UPDATE tasker.tasks t SET state = 'waiting_for_dependencies', in_flight_steps = 0, "
        "sort_key = sort_key + 1 WHERE task_uuid = %s RETURNING t.*) "
        "INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, created_at) "
        "SELECT task_uuid, sort_key, 'steps_in_process', state, tasker.now() FROM task",
    ):
        await engine.database.execute(statement, (task,))


async def content(engine: Engine) -> dict[str, list[str]]:
    """Return every row of every table of the engine that may change, as text."""
    tables = await engine.sql(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' "
        "AND c.relnamespace IN ('tasker'::regnamespace, 'pgmq'::regnamespace) ORDER BY 1"
    )
    return {
        table: sorted(str(row) for (row,) in await engine.sql(f"SELECT r::text FROM {table} r"))
        for (table,) in tables
    }
