"""Reading how close open tasks are to being stale."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.dlq import StalenessHealth
from tasker.domain.staleness import StalenessLimits
from tasker.persistence.database import Database
from tasker.persistence.queries import statement
from tasker.persistence.reading.pages import EXACT_TOTAL, FoundPage

_COUNT: Final = statement("staleness_count").replace("{exact}", str(EXACT_TOTAL))
_STALENESS: Final = statement("staleness")
_ORDER: Final = (StalenessHealth.STALE, StalenessHealth.WARNING, StalenessHealth.HEALTHY)


@dataclass(frozen=True, slots=True)
class TaskStaleness:
    """How close an open task is to being stale.

    Attributes:
        time_in_state_minutes: Since its last transition; in `waiting_for_retry` since its earliest retry is due.
        threshold_minutes: The limit of that.
        percentage: Of the limit that is nearer, that of its state or that of its age; beyond 100 for those past it.
        minutes_until_stale: 0 for those past it.
        health: Healthy too while somebody is at its steps or they are queued for a worker.
        read_at: The engine's clock by which all that is told.
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
    read_at: datetime


@dataclass(frozen=True, slots=True)
class LastStaleness:
    """The last task of a page; the next page begins behind it, judged by the same clock."""

    read_at: datetime
    health: StalenessHealth
    time_in_state_minutes: float
    task_uuid: UUID


class StalenessReader:
    """Holds open tasks against their limits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tasks(
        self,
        limits: StalenessLimits,
        *,
        limit: int = 100,
        skip: int = 0,
        after: LastStaleness | None = None,
    ) -> FoundPage[TaskStaleness]:
        """Return open tasks that wait or work: stale, then warning, then healthy; then longest in their state.

        Args:
            limits: For tasks whose template sets none.
            limit: No more tasks than this.
            skip: Leave out so many.
            after: The last task of the page before.
        """
        params = {
            "limits": Jsonb(limits.to_json()),
            "limit": limit + 1,
            "skip": skip,
            "at": after.read_at if after else None,
            "after_place": _ORDER.index(after.health) + 1 if after else None,
            "after_minutes": after.time_in_state_minutes if after else None,
            "after_task": after.task_uuid if after else None,
        }
        async with self._database.snapshot() as snapshot:
            total = await snapshot.fetch_value(_COUNT)
            found = await snapshot.fetch_all(TaskStaleness, _STALENESS, params)
        return FoundPage(total, found[:limit], more=len(found) > limit)
