"""Tasks whose steps are queued where no live worker serves them: they are put before a person."""

from __future__ import annotations

from datetime import timedelta

from tasker.persistence.operations.dlq import add_unserved_entries
from tasker.persistence.queries import Queries
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


class UnservedLoop:
    """Makes `worker_unavailable` entries for unserved tasks."""

    name = "unserved"

    def __init__(
        self, queries: Queries, *, grace: timedelta, group_size: int = 100, pause_seconds: float = 60.0
    ) -> None:
        self._queries = queries
        self._grace = grace
        self._group_size = group_size
        self._pause_seconds = pause_seconds

    async def tick(self) -> float:
        """Make the entries of one group."""
        unserved = await add_unserved_entries(self._queries, self._grace, self._group_size)
        for namespace in unserved:
            log.warning("no_live_worker", namespace=namespace.namespace, tasks=namespace.tasks)
        made = sum(namespace.tasks for namespace in unserved)
        return 0 if made == self._group_size else self._pause_seconds
