"""Reading tasks, steps and what happened to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.persistence.database import Database


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task and its counts (spec 10 section 6.2). In flight spans `enqueued` to the notification states."""

    task_uuid: UUID
    namespace: str
    name: str
    version: str
    state: str
    priority: int
    correlation_id: UUID
    parent_correlation_id: UUID | None
    initiator: str
    source_system: str
    reason: str
    tags: list[str]
    context: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    total_steps: int
    satisfied_steps: int
    failed_steps: int
    in_flight_steps: int
    backoff_steps: int
    in_progress_steps: int
    ready_steps: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step with its readiness (spec 10 section 6.1) and its newest result as stored."""

    task_uuid: UUID
    step_uuid: UUID
    name: str
    state: str
    attempts: int
    max_attempts: int
    retryable: bool
    total_parents: int
    unmet_parents: int
    backoff_request_seconds: int | None
    next_retry_at: datetime | None
    last_attempted_at: datetime | None
    last_failure_at: datetime | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    envelope: dict[str, Any] | None
    read_at: datetime


@dataclass(frozen=True, slots=True)
class TransitionRecord:
    """A committed change of state of a task (`step_uuid` None) or of one of its steps."""

    task_uuid: UUID
    step_uuid: UUID | None
    step_name: str | None
    sort_key: int
    from_state: str
    to_state: str
    attempt: int | None
    created_at: datetime


_TASK: Final = """
SELECT t.task_uuid, ns.name, n.name, n.version, t.state, t.priority, t.correlation_id, t.parent_correlation_id,
       t.initiator, t.source_system, t.reason, t.tags, t.context, t.created_at, t.updated_at, t.completed_at,
       t.total_steps, t.satisfied_steps, t.failed_steps, t.in_flight_steps, t.backoff_steps, c.in_progress, c.ready
FROM tasker.tasks t
JOIN tasker.named_tasks n USING (named_task_uuid)
JOIN tasker.task_namespaces ns ON ns.namespace_id = t.namespace_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE s.state = 'in_progress') AS in_progress,
           count(*) FILTER (WHERE s.unmet_parents = 0 AND (s.state = 'pending'
               OR (s.state = 'waiting_for_retry' AND s.next_retry_at <= tasker.now()))) AS ready
    FROM tasker.workflow_steps s WHERE s.task_uuid = t.task_uuid
) c
WHERE t.task_uuid = %s
"""

_STEPS: Final = """
SELECT s.task_uuid, s.step_uuid, s.name, s.state, s.attempts, s.max_attempts, s.retryable, s.total_parents,
       s.unmet_parents, s.backoff_request_seconds, s.next_retry_at, s.last_attempted_at, f.created_at,
       s.created_at, s.updated_at, s.completed_at,
       CASE WHEN r.sort_key IS NOT NULL THEN jsonb_build_object(
           'step_uuid', s.step_uuid, 'success', r.success, 'status', r.status, 'result', r.result, 'error', r.error,
           'metadata', r.metadata, 'orchestration_metadata', r.orchestration) END,
       tasker.now()
FROM tasker.workflow_steps s
LEFT JOIN LATERAL (
    SELECT * FROM tasker.step_results r
    WHERE r.task_uuid = s.task_uuid AND r.step_uuid = s.step_uuid ORDER BY r.sort_key DESC LIMIT 1
) r ON true
LEFT JOIN LATERAL (
    SELECT t.created_at FROM tasker.workflow_step_transitions t
    WHERE t.task_uuid = s.task_uuid AND t.step_uuid = s.step_uuid
      AND t.to_state IN ('enqueued_as_error_for_orchestration', 'waiting_for_retry', 'error')
    ORDER BY t.sort_key DESC LIMIT 1
) f ON true
WHERE s.task_uuid = %s
ORDER BY s.step_uuid
"""

# One statement, so that the rows and the cursor belong to one snapshot: the next call's rows are exactly those this
# snapshot cannot see.
_TRANSITIONS: Final = """
SELECT pg_current_snapshot()::text, h.*
FROM (SELECT 1) one
LEFT JOIN LATERAL (
    SELECT t.task_uuid, NULL::uuid AS step_uuid, NULL AS step_name, t.sort_key, t.from_state, t.to_state,
           NULL::integer AS attempt, t.created_at, t.xid
    FROM tasker.task_transitions t
    WHERE t.task_uuid = ANY (%(tasks)s)
      AND (%(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot))
    UNION ALL
    SELECT t.task_uuid, t.step_uuid, s.name, t.sort_key, t.from_state, t.to_state, t.attempt, t.created_at, t.xid
    FROM tasker.workflow_step_transitions t
    JOIN tasker.workflow_steps s USING (task_uuid, step_uuid)
    WHERE %(steps)s AND t.task_uuid = ANY (%(tasks)s)
      AND (%(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot))
) h ON true
ORDER BY h.created_at, h.xid, h.step_uuid NULLS LAST, h.sort_key
"""


_MOVED: Final = """
SELECT pg_current_snapshot()::text, w.task_uuid
FROM (SELECT 1) one
LEFT JOIN unnest(%(tasks)s::uuid[]) AS w(task_uuid) ON EXISTS (
    SELECT FROM tasker.task_transitions t WHERE t.task_uuid = w.task_uuid
    AND (%(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot))
) OR EXISTS (
    SELECT FROM tasker.workflow_step_transitions t WHERE t.task_uuid = w.task_uuid
    AND (%(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot))
)
"""

_CURSOR: Final = re.compile(r"[0-9]{1,19}:[0-9]{1,19}:([0-9]{1,19}(,[0-9]{1,19})*)?")


class TaskReader:
    """Answers questions about tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, task_uuid: UUID) -> TaskRecord | None:
        """Return a task, or None."""
        row = await self._database.fetch_one(_TASK, (task_uuid,))
        return TaskRecord(*row) if row else None

    async def exists(self, task_uuid: UUID) -> bool:
        """Tell whether there is such a task."""
        row = await self._database.fetch_one("SELECT 1 FROM tasker.tasks WHERE task_uuid = %s", (task_uuid,))
        return row is not None

    async def steps(self, task_uuid: UUID) -> list[StepRecord]:
        """Return the steps of a task, oldest first."""
        return [StepRecord(*row) for row in await self._database.fetch_all(_STEPS, (task_uuid,))]

    async def transitions(
        self, task_uuids: Sequence[UUID], cursor: str | None, *, steps: bool
    ) -> tuple[str, list[TransitionRecord]]:
        """Return what was committed since the call that returned `cursor`, and the next cursor.

        Args:
            task_uuids: Whose transitions.
            cursor: From the call before; None for everything.
            steps: Whether to include those of the steps.
        """
        rows = await self._database.fetch_all(
            _TRANSITIONS, {"tasks": list(task_uuids), "cursor": cursor, "steps": steps}
        )
        return rows[0][0], [TransitionRecord(*row[1:9]) for row in rows if row[1] is not None]

    async def moved_tasks(self, task_uuids: Sequence[UUID], cursor: str | None) -> tuple[str, list[UUID]]:
        """Return which of these tasks have transitions that the call which returned `cursor` could not see."""
        rows = await self._database.fetch_all(_MOVED, {"tasks": list(task_uuids), "cursor": cursor})
        return rows[0][0], [task_uuid for _, task_uuid in rows if task_uuid is not None]

    def is_cursor(self, text: str) -> bool:
        """Tell whether a text can be a cursor that `transitions` returned."""
        return _CURSOR.fullmatch(text) is not None

    async def announce_watcher(self, watcher_uuid: UUID, *, steps: bool, seconds: float) -> None:
        """Have transactions hint their transitions for a while."""
        await self._database.execute(
            "INSERT INTO tasker.watchers (watcher_uuid, steps, expires_at) "
            "VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s)) ON CONFLICT (watcher_uuid) "
            "DO UPDATE SET steps = excluded.steps, expires_at = excluded.expires_at",
            (watcher_uuid, steps, seconds),
        )
