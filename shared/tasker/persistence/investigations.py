"""Investigations: entries of tasks that need a person, and how close other tasks are to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.investigations import BASE_SCORES, DlqReason, ResolutionStatus
from tasker.domain.staleness import StalenessHealth, StalenessLimits
from tasker.persistence.connections import Row
from tasker.persistence.database import Database
from tasker.persistence.statements import statement

_ENTRIES: Final = statement("investigations")
_STATS: Final = statement("investigation_stats")
_QUEUE: Final = statement("investigation_queue")
_STALENESS: Final = statement("staleness")


@dataclass(frozen=True, slots=True)
class Investigation:
    """An entry: a task needs, or needed, a person.

    Attributes:
        original_state: The task's state when the entry was made.
        dlq_timestamp: When that was.
        resolution_timestamp: When the entry left `pending`.
        task_snapshot: The task as it was then, with its steps, its last transitions and their counts.
        metadata: How it was found; an update may replace it.
    """

    dlq_entry_uuid: UUID
    task_uuid: UUID
    original_state: str
    dlq_reason: DlqReason
    dlq_timestamp: datetime
    resolution_status: ResolutionStatus
    resolution_timestamp: datetime | None
    resolution_notes: str | None
    resolved_by: str | None
    task_snapshot: Mapping[str, Any]
    metadata: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class InvestigationStats:
    """The entries of one reason; the average counts those that left `pending`."""

    dlq_reason: DlqReason
    total_entries: int
    pending: int
    manually_resolved: int
    permanent_failures: int
    cancelled: int
    oldest_entry: datetime
    newest_entry: datetime
    avg_resolution_time_minutes: float | None


@dataclass(frozen=True, slots=True)
class QueuedInvestigation:
    """A pending entry and how urgent it is.

    Attributes:
        namespace, name, current_state, time_in_state_minutes: Of its task as it is now; None when it was deleted.
        priority_score: The weight of the reason plus `minutes_in_dlq`.
    """

    dlq_entry_uuid: UUID
    task_uuid: UUID
    original_state: str
    dlq_reason: DlqReason
    dlq_timestamp: datetime
    minutes_in_dlq: float
    namespace: str | None
    name: str | None
    current_state: str | None
    time_in_state_minutes: int | None
    priority_score: float


@dataclass(frozen=True, slots=True)
class TaskStaleness:
    """How close an open task is to being stale.

    Attributes:
        time_in_state_minutes: Since its last transition; in `waiting_for_retry` since its earliest retry is due.
        threshold_minutes: The limit of that.
        percentage: Of the limit that is nearer, that of its state or that of its age; beyond 100 for those past it.
        minutes_until_stale: 0 for those past it.
        health: Healthy too while somebody is at its steps or they are queued for a worker.
    """

    task_uuid: UUID
    namespace: str
    name: str
    state: str
    priority: int
    time_in_state_minutes: float
    age_minutes: float
    threshold_minutes: int
    percentage: float
    minutes_until_stale: float
    health: StalenessHealth


@dataclass(frozen=True, slots=True)
class Update:
    """What an update came to.

    Attributes:
        status_before: The entry's status before; None when there is no such entry.
        updated: Whether it was changed.
    """

    status_before: ResolutionStatus | None
    updated: bool


class InvestigationStore:
    """Reads entries, and writes what operators do to them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        *,
        status: ResolutionStatus | None = None,
        reason: DlqReason | None = None,
        limit: int = 50,
        skip: int = 0,
    ) -> list[Investigation]:
        """Return entries, newest first.

        Args:
            status: Only entries of this status.
            reason: Only entries of this reason.
            limit: No more than this.
            skip: Leave out so many.
        """
        conditions = []
        if status is ResolutionStatus.PENDING:
            conditions.append("e.resolution_status = 'pending'")  # written out: pending entries have an index
        elif status is not None:
            conditions.append("e.resolution_status = %(status)s")
        if reason is not None:
            conditions.append("e.dlq_reason = %(reason)s")
        return await self._entries(
            " AND ".join(conditions) or "true", {"status": status, "reason": reason}, limit=limit, skip=skip
        )

    async def newest_of(self, task_uuid: UUID) -> Investigation | None:
        """Return the newest entry of a task, or None."""
        entries = await self._entries("e.task_uuid = %(task)s", {"task": task_uuid}, limit=1)
        return entries[0] if entries else None

    async def get(self, dlq_entry_uuid: UUID) -> Investigation | None:
        """Return an entry, or None."""
        entries = await self._entries("e.dlq_entry_uuid = %(entry)s", {"entry": dlq_entry_uuid}, limit=1)
        return entries[0] if entries else None

    async def stats(self) -> list[InvestigationStats]:
        """Return counts and times of every reason that has entries."""
        rows = await self._database.fetch_tuples(_STATS)
        return [InvestigationStats(*_typed(row, {0: DlqReason})) for row in rows]

    async def queue(self, *, limit: int = 100) -> list[QueuedInvestigation]:
        """Return pending entries, highest priority score first."""
        rows = await self._database.fetch_tuples(_QUEUE, {"scores": Jsonb(BASE_SCORES), "limit": limit})
        return [QueuedInvestigation(*_typed(row, {3: DlqReason})) for row in rows]

    async def staleness(self, limits: StalenessLimits, *, limit: int = 100) -> list[TaskStaleness]:
        """Return open tasks that wait or work: stale, then warning, then healthy; then longest in their state.

        Args:
            limits: For tasks whose template sets none.
            limit: No more tasks than this.
        """
        rows = await self._database.fetch_tuples(
            _STALENESS, {"limits": Jsonb(limits.to_json()), "limit": limit}
        )
        return [TaskStaleness(*_typed(row, {10: StalenessHealth})) for row in rows]

    async def open_by_hand(self, task_uuid: UUID, metadata: Mapping[str, Any]) -> tuple[UUID, bool] | None:
        """Make an entry unless the task has a pending one; None when there is no such task.

        Returns:
            The pending entry, and whether it was made now.
        """
        row = await self._database.fetch_tuple(
            "SELECT task_found, dlq_entry_uuid, created FROM tasker.add_dlq_entry_by_hand_v1(%s, %s)",
            (task_uuid, Jsonb(metadata)),
        )
        return (row[1], row[2]) if row and row[0] else None

    async def update(
        self,
        dlq_entry_uuid: UUID,
        *,
        status: ResolutionStatus | None,
        notes: str | None,
        resolved_by: str | None,
        metadata: str | None,
        expected_updated_at: datetime | None,
    ) -> Update:
        """Change a pending entry; None keeps what is there.

        Args:
            dlq_entry_uuid: The entry.
            status: The new status; whatever is not `pending` ends the investigation.
            notes: What was found.
            resolved_by: Who found it.
            metadata: JSON text that replaces the metadata as a whole.
            expected_updated_at: Change nothing if the entry was changed since.
        """
        row = await self._database.fetch_tuple(
            "SELECT status_before, updated FROM tasker.update_dlq_entry_v1(%s, %s, %s, %s, %s::text::jsonb, %s)",
            (dlq_entry_uuid, status, notes, resolved_by, metadata, expected_updated_at),
        )
        assert row is not None
        return Update(ResolutionStatus(row[0]) if row[0] else None, row[1])

    async def _entries(
        self, conditions: str, params: Mapping[str, Any], *, limit: int, skip: int = 0
    ) -> list[Investigation]:
        rows = await self._database.fetch_tuples(
            _ENTRIES.replace("{conditions}", conditions), {**params, "limit": limit, "skip": skip}
        )
        return [Investigation(*_typed(row, {3: DlqReason, 5: ResolutionStatus})) for row in rows]


def _typed(row: Row, kinds: Mapping[int, type[StrEnum]]) -> list[Any]:
    """Return the values of a row, those at some places as members of an enumeration."""
    return [kinds[place](value) if place in kinds else value for place, value in enumerate(row)]
