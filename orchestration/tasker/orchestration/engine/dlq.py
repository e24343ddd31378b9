"""What operators do about tasks that need a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.dlq import ResolutionStatus
from tasker.domain.errors import (
    ConcurrentChangeError,
    DlqEntryClosedError,
    DlqEntryNotFoundError,
    TaskNotFoundError,
)
from tasker.orchestration.engine.arguments import check_texts, storable
from tasker.persistence.database import Database
from tasker.persistence.operations.dlq import add_dlq_entry_by_hand, update_dlq_entry
from tasker.persistence.reading.dlq import DlqEntry, DlqReader

#: The longest texts of an entry.
_LENGTHS: Final[Mapping[str, int]] = {
    "requested_by": 255,
    "reason": 500,
    "resolution_notes": 10_000,
    "resolved_by": 255,
}
#: The largest metadata of an entry as JSON text: an entry shall be readable, and many of them at once.
_METADATA_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Opened:
    """The pending entry of a task.

    Attributes:
        entry: The entry.
        created: Whether it was made now, rather than found.
    """

    entry: DlqEntry
    created: bool


class DlqEntries:
    """Makes entries by hand and resolves them. They record: nothing here moves or retries a task."""

    def __init__(self, database: Database) -> None:
        self._queries = database
        self._reader = DlqReader(database)

    async def open(
        self, task_uuid: UUID, *, reason: str | None = None, requested_by: str | None = None
    ) -> Opened:
        """Put a task before a person, whatever its state; one that is there already stays as it is.

        Args:
            task_uuid: The task.
            reason: Why, for whoever looks into it.
            requested_by: Who asks for it.

        Raises:
            InvalidArgumentError: A text is too long or cannot be stored.
            TaskNotFoundError: There is no such task.
        """
        check_texts(_LENGTHS, {"reason": reason, "requested_by": requested_by})
        said = {"reason": reason, "requested_by": requested_by}
        added = await add_dlq_entry_by_hand(
            self._queries, task_uuid, {key: text for key, text in said.items() if text is not None}
        )
        if added is None:
            raise TaskNotFoundError(task_uuid)
        return Opened(await self._get(added.dlq_entry_uuid), added.created)

    async def update(
        self,
        dlq_entry_uuid: UUID,
        *,
        resolution_status: ResolutionStatus | None = None,
        resolution_notes: str | None = None,
        resolved_by: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expected_updated_at: datetime | None = None,
    ) -> DlqEntry:
        """Record findings, or what became of an entry, which is final. What is None stays as it is.

        Args:
            dlq_entry_uuid: The entry.
            resolution_status: What became of the entry.
            resolution_notes: What was found; at most 10,000 characters.
            resolved_by: Who found it; at most 255 characters.
            metadata: Replaces the entry's metadata as a whole.
            expected_updated_at: The caller knows the entry as of this `updated_at`; None where that does not matter.

        Raises:
            ConcurrentChangeError: The entry has changed since `expected_updated_at`, if only by being closed.
            DlqEntryNotFoundError: There is no such entry.
            InvalidArgumentError: A text is too long, or a value is too large or cannot be stored.
            DlqEntryClosedError: The entry has left `pending`.
        """
        check_texts(_LENGTHS, {"resolution_notes": resolution_notes, "resolved_by": resolved_by})
        kept = None if metadata is None else storable("metadata", dict(metadata), most_bytes=_METADATA_BYTES)
        update = await update_dlq_entry(
            self._queries,
            dlq_entry_uuid,
            status=resolution_status,
            notes=resolution_notes,
            resolved_by=resolved_by,
            metadata=kept,
            expected_updated_at=expected_updated_at,
        )
        if update.status_before is None:
            raise DlqEntryNotFoundError(dlq_entry_uuid=dlq_entry_uuid)
        entry = await self._get(dlq_entry_uuid)
        if update.updated:
            return entry
        # An entry that is closed changes no more, so what was read now is what was refused.
        if expected_updated_at not in (None, entry.updated_at):
            raise ConcurrentChangeError(
                f"DLQ entry {dlq_entry_uuid} was changed at {entry.updated_at.isoformat()}, after expected_updated_at; "
                "read it again, and repeat the update if it still holds"
            )
        raise DlqEntryClosedError(dlq_entry_uuid, update.status_before)

    async def _get(self, dlq_entry_uuid: UUID) -> DlqEntry:
        entry = await self._reader.get(dlq_entry_uuid)
        if entry is None:
            raise DlqEntryNotFoundError(dlq_entry_uuid=dlq_entry_uuid)
        return entry
