"""Tasks that wait for a person or a worker: given up after days, and reported where no worker is."""

from __future__ import annotations

from datetime import timedelta

import structlog

from tasker.persistence.staleness import StandingTasks

log = structlog.get_logger(__name__)


class GiveUpLoop:
    """Moves tasks to `error` that failures have blocked for days without anybody acting.

    Their entries stay: the investigation ends when a person ends it.
    """

    name = "give_up"

    def __init__(
        self, tasks: StandingTasks, *, age: timedelta, batch_size: int = 100, pause_seconds: float = 600.0
    ) -> None:
        self._tasks = tasks
        self._age = age
        self._batch_size = batch_size
        self._pause_seconds = pause_seconds

    async def tick(self) -> float:
        """Give up one batch."""
        given_up = await self._tasks.give_up(self._age, self._batch_size)
        for task_uuid in given_up:
            log.warning("blocked_task_given_up", task_uuid=str(task_uuid), after_days=self._age.days)
        return 0 if len(given_up) == self._batch_size else self._pause_seconds


class UnservedLoop:
    """Makes `worker_unavailable` entries for tasks whose steps are queued where no live worker serves them."""

    name = "unserved"

    def __init__(
        self, tasks: StandingTasks, *, grace: timedelta, batch_size: int = 100, pause_seconds: float = 60.0
    ) -> None:
        self._tasks = tasks
        self._grace = grace
        self._batch_size = batch_size
        self._pause_seconds = pause_seconds

    async def tick(self) -> float:
        """Make the entries of one batch."""
        made = await self._tasks.investigate_unserved(self._grace, self._batch_size)
        for namespace, tasks in made.items():
            log.warning("no_live_worker", namespace=namespace, tasks=tasks)
        return 0 if sum(made.values()) == self._batch_size else self._pause_seconds
