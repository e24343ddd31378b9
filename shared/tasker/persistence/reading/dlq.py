"""Reading DLQ entries: which tasks are put before a person, and how urgently."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.dlq import BASE_SCORES, DlqReason, ResolutionStatus
from tasker.persistence.database import Database
from tasker.persistence.queries import Queries, statement
from tasker.persistence.reading.pages import EXACT_TOTAL, PAGE_VALUE_BYTES, FoundPage

_COUNT: Final = statement("dlq_count").replace("{exact}", str(EXACT_TOTAL))
_ENTRIES: Final = statement("dlq_entries")
_STATS: Final = statement("dlq_stats")
_QUEUE: Final = statement("dlq_queue")
_PENDING: Final = "e.resolution_status = 'pending'"  # written out: pending entries have an index


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
        urgent_since: `dlq_timestamp` less the weight in minutes: the earlier, the more urgent.
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
    urgent_since: datetime


@dataclass(frozen=True, slots=True)
class LastEntry:
    """The last entry of a page: the next page begins behind it.

    Attributes:
        at: Its `dlq_timestamp`; in the queue its `urgent_since`.
        dlq_entry_uuid: Its uuid.
    """

    at: datetime
    dlq_entry_uuid: UUID


class DlqReader:
    """Reads DLQ entries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        *,
        status: ResolutionStatus | None = None,
        reason: DlqReason | None = None,
        limit: int = 50,
        skip: int = 0,
        after: LastEntry | None = None,
    ) -> FoundPage[DlqEntry]:
        """Return entries, newest first. A page ends early rather than grow beyond `PAGE_VALUE_BYTES`.

        Args:
            status: Only entries of this status.
            reason: Only entries of this reason.
            limit: No more than this.
            skip: Leave out so many.
            after: The last entry of the page before.
        """
        conditions = ["true"]
        params: dict[str, Any] = {"status": status, "reason": reason}
        if status is not None:
            pending = status is ResolutionStatus.PENDING
            conditions.append(_PENDING if pending else "e.resolution_status = %(status)s")
        if reason is not None:
            conditions.append("e.dlq_reason = %(reason)s")
        matching = " AND ".join(conditions)
        if after is not None:
            conditions.append("(e.dlq_timestamp, e.dlq_entry_uuid) < (%(after_at)s, %(after_entry)s)")
            params |= {"after_at": after.at, "after_entry": after.dlq_entry_uuid}
        async with self._database.snapshot() as snapshot:
            total = await _count(snapshot, matching, params)
            found = await _entries(snapshot, " AND ".join(conditions), params, limit=limit + 1, skip=skip)
        entries = list(itertools.takewhile(lambda entry: entry.task_snapshot is not None, found[:limit]))
        return FoundPage(total, entries, more=len(found) > len(entries))

    async def newest_of(self, task_uuid: UUID) -> DlqEntry | None:
        """Return the newest entry of a task, or None."""
        entries = await _entries(self._database, "e.task_uuid = %(task)s", {"task": task_uuid}, limit=1)
        return entries[0] if entries else None

    async def get(self, dlq_entry_uuid: UUID) -> DlqEntry | None:
        """Return an entry, or None."""
        params = {"entry": dlq_entry_uuid}
        entries = await _entries(self._database, "e.dlq_entry_uuid = %(entry)s", params, limit=1)
        return entries[0] if entries else None

    async def stats(self) -> list[DlqStats]:
        """Return counts and times of every reason that has entries."""
        return await self._database.fetch_all(DlqStats, _STATS)

    async def queue(
        self, *, limit: int = 100, skip: int = 0, after: LastEntry | None = None
    ) -> FoundPage[QueuedDlqEntry]:
        """Return pending entries, highest priority score first.

        Args:
            limit: No more than this.
            skip: Leave out so many.
            after: The last entry of the page before.
        """
        params = {
            "scores": Jsonb(BASE_SCORES),
            "limit": limit + 1,
            "skip": skip,
            "after_since": after.at if after else None,
            "after_entry": after.dlq_entry_uuid if after else None,
        }
        async with self._database.snapshot() as snapshot:
            total = await _count(snapshot, _PENDING, {})
            found = await snapshot.fetch_all(QueuedDlqEntry, _QUEUE, params)
        return FoundPage(total, found[:limit], more=len(found) > limit)


async def _count(queries: Queries, conditions: str, params: Mapping[str, Any]) -> int:
    count: int = await queries.fetch_value(_COUNT.replace("{conditions}", conditions), params)
    return count


async def _entries(
    queries: Queries, conditions: str, params: Mapping[str, Any], *, limit: int, skip: int = 0
) -> list[DlqEntry]:
    return await queries.fetch_all(
        DlqEntry,
        _ENTRIES.replace("{conditions}", conditions),
        {**params, "limit": limit, "skip": skip, "bytes": PAGE_VALUE_BYTES},
    )
