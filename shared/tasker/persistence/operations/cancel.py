"""Cancelling tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.persistence.queries import Queries

_CANCEL: Final = (
    "SELECT from_state, cancelled FROM tasker.cancel_task_v1(%s, %s) WHERE from_state IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class CancelledTask:
    """A task that was to be cancelled.

    Attributes:
        from_state: Where it was.
        cancelled: Whether it was cancelled now; one that is over stays as it is.
    """

    from_state: str
    cancelled: bool


async def cancel_task(queries: Queries, task_uuid: UUID, metadata: Mapping[str, Any]) -> CancelledTask | None:
    """Cancel a task and all its steps that are not over; return None if there is no such task."""
    return await queries.fetch_one(CancelledTask, _CANCEL, (task_uuid, Jsonb(metadata)))
