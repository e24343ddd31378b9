"""What is over for long enough goes."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Final
from uuid import UUID

from tasker.persistence.operations.retain import delete_old_poison, delete_old_tasks
from tasker.persistence.queries import Queries
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

_BEGINNING: Final = UUID(int=0)
#: Between two groups of which something was deleted: the work at hand comes first.
_BREATH_SECONDS: Final = 0.1
#: A long walk reports at least this often.
_TASKS_PER_REPORT: Final = 10_000


class Retention:
    """Walks the old tasks and deletes those that ended `age` ago or more, with everything that hangs on them.

    Tasks with a pending DLQ entry stay. Orchestrators side by side share the work: each passes over what another
    one is deleting.
    """

    name = "retention"

    def __init__(
        self,
        queries: Queries,
        *,
        age: timedelta,
        group_size: int = 100,
        pause_seconds: float = 60.0,
    ) -> None:
        self._queries = queries
        self._age = age
        self._group_size = group_size
        self._pause_seconds = pause_seconds
        self._after = _BEGINNING
        self._deleted: Counter[str] = Counter()

    async def tick(self) -> float:
        """Delete one group; pause after the last one of a walk."""
        deleted = await delete_old_tasks(self._queries, self._group_size, self._age, self._after)
        self._deleted.update(deleted.rows)
        if deleted.last_uuid is not None:
            self._after = deleted.last_uuid
            if self._deleted["tasks"] >= _TASKS_PER_REPORT:
                self._report()
            return _BREATH_SECONDS if deleted.rows else 0
        self._after = _BEGINNING
        self._deleted["poison_messages"] += await delete_old_poison(
            self._queries, self._group_size, self._age
        )
        self._report()
        return self._pause_seconds

    def _report(self) -> None:
        """Log what went since the last report."""
        rows = dict(+self._deleted)
        self._deleted.clear()
        if rows:
            log.info("old_tasks_deleted", tasks=rows.pop("tasks", 0), rows=rows)
