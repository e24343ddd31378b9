"""Reading DLQ entries: which tasks are put before a person, and how urgently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.dlq import BASE_SCORES, DlqReason, ResolutionStatus
from tasker.persistence.queries import Queries, statement

_ENTRIES: Final = statement("dlq_entries")
_STATS: Final = statement("dlq_stats")
_QUEUE: Final = statement("dlq_queue")


@dataclass(frozen=True, slots=True)
class DlqEntry:
    """A task needs, or needed, a person.

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
class DlqStats:
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
class QueuedDlqEntry:
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


class DlqReader:
    """Reads DLQ entries."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def page(
        self,
        *,
        status: ResolutionStatus | None = None,
        reason: DlqReason | None = None,
        limit: int = 50,
        skip: int = 0,
    ) -> list[DlqEntry]:
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

    async def newest_of(self, task_uuid: UUID) -> DlqEntry | None:
        """Return the newest entry of a task, or None."""
        entries = await self._entries("e.task_uuid = %(task)s", {"task": task_uuid}, limit=1)
        return entries[0] if entries else None

    async def get(self, dlq_entry_uuid: UUID) -> DlqEntry | None:
        """Return an entry, or None."""
        entries = await self._entries("e.dlq_entry_uuid = %(entry)s", {"entry": dlq_entry_uuid}, limit=1)
        return entries[0] if entries else None

    async def stats(self) -> list[DlqStats]:
        """Return counts and times of every reason that has entries."""
        return await self._queries.fetch_all(DlqStats, _STATS)

    async def queue(self, *, limit: int = 100) -> list[QueuedDlqEntry]:
        """Return pending entries, highest priority score first."""
        return await self._queries.fetch_all(
            QueuedDlqEntry, _QUEUE, {"scores": Jsonb(BASE_SCORES), "limit": limit}
        )

    async def _entries(
        self, conditions: str, params: Mapping[str, Any], *, limit: int, skip: int = 0
    ) -> list[DlqEntry]:
        return await self._queries.fetch_all(
            DlqEntry,
            _ENTRIES.replace("{conditions}", conditions),
            {**params, "limit": limit, "skip": skip},
        )
