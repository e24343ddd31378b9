"""Reading how close open tasks are to being stale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.staleness import StalenessHealth, StalenessLimits
from tasker.persistence.queries import Queries, statement

_STALENESS: Final = statement("staleness")


@dataclass(frozen=True, slots=True)
class TaskStaleness:
    """How close an open task is to being stale.

    Attributes:
        time_in_state_minutes: Since its last transition; in `waiting_for_retry` since its earliest retry is due.
        threshold_minutes: The limit of that.
        percentage: Of the limit that is nearer, that of its state or that of its age; beyond 100 for those past it.
        minutes_until_stale: 0 for those past it.
        health: Healthy too while somebody is at its steps or they are queued for a worker.
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


class StalenessReader:
    """Holds open tasks against their limits."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def tasks(self, limits: StalenessLimits, *, limit: int = 100) -> list[TaskStaleness]:
        """Return open tasks that wait or work: stale, then warning, then healthy; then longest in their state.

        Args:
            limits: For tasks whose template sets none.
            limit: No more tasks than this.
        """
        return await self._queries.fetch_all(
            TaskStaleness, _STALENESS, {"limits": Jsonb(limits.to_json()), "limit": limit}
        )
