"""Waking tasks whose timer is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tasker.persistence.queries import Queries

_WAKE: Final = """
    SELECT woken, next_due_ms / 1000 AS next_due_seconds, expired FROM tasker.wake_tasks_v1(%s)
"""


@dataclass(frozen=True, slots=True)
class WokenTasks:
    """What one call woke.

    Attributes:
        woken: How many tasks were due.
        next_due_seconds: In how long the next one is; None if no timer is set.
        expired: Those among them that were cancelled since their time is up.
    """

    woken: int
    next_due_seconds: float | None
    expired: list[UUID]


async def wake_tasks(queries: Queries, limit: int) -> WokenTasks:
    """Look again at up to `limit` tasks whose timer is due, and cancel those that have expired."""
    woken = await queries.fetch_one(WokenTasks, _WAKE, (limit,))
    assert woken is not None
    return woken
