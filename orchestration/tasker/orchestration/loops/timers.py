"""The one timer: retries that are due, and tasks whose time is up."""

from __future__ import annotations

from tasker.orchestration.loops.results import BUSY_SECONDS
from tasker.persistence.operations.timers import fire_timers
from tasker.persistence.queries import Queries
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


class TimerLoop:
    """Looks at tasks whose `wake_at` has come and sleeps until the next one; an earlier one that commits hints it.

    Tasks whose time is up are cancelled with all their steps.
    """

    name = "timers"

    def __init__(self, queries: Queries, *, group_size: int = 100, poll_seconds: float = 5.0) -> None:
        self._queries = queries
        self._group_size = group_size
        self._poll_seconds = poll_seconds

    async def tick(self) -> float:
        """Look at one group."""
        tasks = await fire_timers(self._queries, self._group_size)
        for task_uuid in tasks.expired:
            log.info("task_expired", task_uuid=str(task_uuid))
        if tasks.woken >= self._group_size:
            return 0
        if tasks.next_due_seconds is None:
            return self._poll_seconds
        # A task that is due already was skipped because it is busy: look again in a moment, not at once.
        wait = tasks.next_due_seconds if tasks.next_due_seconds > 0 else BUSY_SECONDS
        return min(wait, self._poll_seconds)
