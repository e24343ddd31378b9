"""Repairing what open tasks keep about themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from tasker.persistence.queries import Queries

_RECONCILE: Final = """
    SELECT task_uuid, drift, resent FROM tasker.reconcile_tasks_v1(%s, %s, %s) ORDER BY task_uuid
"""


@dataclass(frozen=True, slots=True)
class ReconciledTask:
    """A task the reconciler looked at.

    Attributes:
        drift: What it kept wrongly, by name; None when all was right.
        resent: Steps whose message was gone and was sent again.
    """

    task_uuid: UUID
    drift: dict[str, Any] | None
    resent: int


async def reconcile_tasks(
    queries: Queries, after: UUID, limit: int, grace: timedelta
) -> list[ReconciledTask]:
    """Recompute what up to `limit` open tasks behind `after` keep about themselves, and repair their messages.

    Tasks that changed within `grace` are left alone.
    """
    return await queries.fetch_all(ReconciledTask, _RECONCILE, (after, limit, grace))
