"""Tasks that failures block for days without anybody acting: they are given up."""

from __future__ import annotations

from datetime import timedelta

from tasker.persistence.operations.give_up import give_up_tasks
from tasker.persistence.queries import Queries
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


class GiveUpLoop:
    """Moves blocked tasks to `error`. Their DLQ entries stay: those end when a person ends them."""

    name = "give_up"

    def __init__(
        self, queries: Queries, *, age: timedelta, group_size: int = 100, pause_seconds: float = 600.0
    ) -> None:
        self._queries = queries
        self._age = age
        self._group_size = group_size
        self._pause_seconds = pause_seconds

    async def tick(self) -> float:
        """Give up one group."""
        given_up = await give_up_tasks(self._queries, self._age, self._group_size)
        for task_uuid in given_up:
            log.warning("blocked_task_given_up", task_uuid=str(task_uuid), after_days=self._age.days)
        return 0 if len(given_up) == self._group_size else self._pause_seconds
