"""Detecting stale tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.staleness import StalenessLimits
from tasker.persistence.queries import Queries, Transaction

#: Locked by the instance that detects right now: "stale", in ASCII.
_LOCK_KEY: Final = 0x7374616C65

_LOCK_DETECTION: Final = "SELECT pg_try_advisory_xact_lock(%s) AS locked, tasker.now() AS now"
_STALE_TASKS: Final = """
    SELECT task_uuid, state, namespace, name, lifecycle, since, minutes_in_state AS time_in_state_minutes,
           threshold_minutes
    FROM tasker.stale_tasks_v1(%s, %s, %s::timestamptz, %s)
"""


@dataclass(frozen=True, slots=True)
class DetectionLock:
    """An attempt to be the one who detects.

    Attributes:
        locked: Whether no other instance is at it.
        now: The engine's clock.
    """

    locked: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class StaleTask:
    """A task that has been where it is for too long, when it was looked at.

    Attributes:
        lifecycle: What its template says about that, as stored.
        since: When the clock of its state started.
    """

    task_uuid: UUID
    state: str
    namespace: str
    name: str
    lifecycle: Mapping[str, Any] | None
    since: datetime
    time_in_state_minutes: float
    threshold_minutes: int


async def lock_detection(transaction: Transaction) -> DetectionLock:
    """Keep other instances from detecting until the transaction ends, unless one is at it already."""
    lock = await transaction.fetch_one(DetectionLock, _LOCK_DETECTION, (_LOCK_KEY,))
    assert lock is not None
    return lock


async def stale_tasks(
    queries: Queries, limits: StalenessLimits, limit: int, *, after: StaleTask | None = None
) -> list[StaleTask]:
    """Return stale tasks without a pending entry, longest in their state first.

    Args:
        queries: Where.
        limits: For tasks whose template sets none.
        limit: No more than this.
        after: The last task of the page before.
    """
    behind: Sequence[Any] = (after.since, after.task_uuid) if after else ("-infinity", UUID(int=0))
    return await queries.fetch_all(StaleTask, _STALE_TASKS, (Jsonb(limits.to_json()), limit, *behind))
