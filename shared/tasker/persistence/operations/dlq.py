"""Making DLQ entries, and recording what people find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.dlq import ResolutionStatus
from tasker.persistence.queries import Queries

_ADD: Final = """
    SELECT a.dlq_entry_uuid, a.created FROM tasker.add_dlq_entry_by_hand_v1(%(task)s, %(metadata)s) a
    WHERE a.task_found
"""
_ADD_UNSERVED: Final = "SELECT namespace, tasks FROM tasker.add_unserved_entries_v1(%s, %s)"
_UPDATE: Final = """
    SELECT u.status_before, u.updated
    FROM tasker.update_dlq_entry_v1(
        %(entry)s, %(status)s, %(notes)s, %(resolved_by)s, %(metadata)s::text::jsonb, %(expected)s) u
"""


@dataclass(frozen=True, slots=True)
class AddedDlqEntry:
    """The pending entry of a task, and whether it was made now."""

    dlq_entry_uuid: UUID
    created: bool


@dataclass(frozen=True, slots=True)
class DlqUpdate:
    """What an update came to.

    Attributes:
        status_before: The entry's status before; None when there is no such entry.
        updated: Whether it was changed.
    """

    status_before: ResolutionStatus | None
    updated: bool


async def add_dlq_entry_by_hand(
    queries: Queries, task_uuid: UUID, metadata: Mapping[str, Any]
) -> AddedDlqEntry | None:
    """Make an entry unless the task has a pending one; None when there is no such task."""
    return await queries.fetch_one(AddedDlqEntry, _ADD, {"task": task_uuid, "metadata": Jsonb(metadata)})


async def update_dlq_entry(
    queries: Queries,
    dlq_entry_uuid: UUID,
    *,
    status: ResolutionStatus | None,
    notes: str | None,
    resolved_by: str | None,
    metadata: str | None,
    expected_updated_at: datetime | None,
) -> DlqUpdate:
    """Change a pending entry; None keeps what is there.

    Args:
        queries: Where to do it.
        dlq_entry_uuid: The entry.
        status: The new status; whatever is not `pending` is final.
        notes: What was found.
        resolved_by: Who found it.
        metadata: JSON text that replaces the metadata as a whole.
        expected_updated_at: Change nothing if the entry was changed since.
    """
    (update,) = await queries.fetch_all(
        DlqUpdate,
        _UPDATE,
        {
            "entry": dlq_entry_uuid,
            "status": status,
            "notes": notes,
            "resolved_by": resolved_by,
            "metadata": metadata,
            "expected": expected_updated_at,
        },
    )
    return update


@dataclass(frozen=True, slots=True)
class UnservedNamespace:
    """A namespace that no live worker serves, and how many of its tasks got an entry."""

    namespace: str
    tasks: int


async def add_unserved_entries(queries: Queries, grace: timedelta, limit: int) -> list[UnservedNamespace]:
    """Make entries for up to `limit` tasks of which a step has been queued for `grace` with no live worker."""
    return await queries.fetch_all(UnservedNamespace, _ADD_UNSERVED, (grace, limit))
