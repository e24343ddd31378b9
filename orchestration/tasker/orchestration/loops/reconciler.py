"""The repair behind everything: recounts open tasks and sends again what got lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from tasker.persistence.operations.reconcile import reconcile_tasks
from tasker.persistence.queries import Queries
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

_BEGINNING: Final = UUID(int=0)


class Reconciler:
    """Walks the open tasks that nothing has changed for a while and re-evaluates them.

    A difference between what a task keeps and what its steps say is a defect: it is repaired and reported.
    """

    name = "reconciler"

    def __init__(
        self,
        queries: Queries,
        *,
        group_size: int = 100,
        pause_seconds: float = 30.0,
        grace: timedelta = timedelta(seconds=60),
    ) -> None:
        self._queries = queries
        self._group_size = group_size
        self._pause_seconds = pause_seconds
        self._grace = grace
        self._after = _BEGINNING

    async def tick(self) -> float:
        """Reconcile one group; pause after the last one of a walk."""
        tasks = await reconcile_tasks(self._queries, self._after, self._group_size, self._grace)
        for task in tasks:
            if task.drift is not None:
                log.error("counts_drifted", task_uuid=str(task.task_uuid), drift=task.drift)
            if task.resent:
                log.warning("messages_resent", task_uuid=str(task.task_uuid), steps=task.resent)
        if len(tasks) == self._group_size:
            self._after = tasks[-1].task_uuid
            return 0
        self._after = _BEGINNING
        return self._pause_seconds
