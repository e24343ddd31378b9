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
_REQUEUE: Final = "SELECT from_state, messages FROM tasker.requeue_task_v1(%s) WHERE from_state IS NOT NULL"


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


@dataclass(frozen=True, slots=True)
class RequeuedTask:
    """A task whose messages were to be sent again.

    Attributes:
        from_state: Where it is.
        messages: How many were in no queue, and were sent; None if the task is over.
    """

    from_state: str
    messages: int | None


async def reconcile_tasks(
    queries: Queries, after: UUID, limit: int, grace: timedelta
) -> list[ReconciledTask]:
    """Recompute what up to `limit` open tasks behind `after` keep about themselves, and repair their messages.

    Tasks that changed within `grace` are left alone.
    """
    return await queries.fetch_all(ReconciledTask, _RECONCILE, (after, limit, grace))


async def requeue_task(queries: Queries, task_uuid: UUID) -> RequeuedTask | None:
    """Send again those messages of a task that are in no queue; return None if there is no such task."""
    return await queries.fetch_one(RequeuedTask, _REQUEUE, (task_uuid,))
