"""What is over for long enough goes."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from tasker.messaging.pgmq import PgmqOrchestrationBroker

log = structlog.get_logger(__name__)

_BEGINNING: Final = UUID(int=0)
#: Between two batches that deleted something: the work at hand comes first.
_BREATH_SECONDS: Final = 0.1
#: A long walk reports at least this often.
_TASKS_PER_REPORT: Final = 10_000


class Retention:
    """Walks the old tasks and deletes those that ended `age` ago or more, with everything that hangs on them.

    Tasks with a pending investigation stay. Orchestrators side by side share the work: each passes over what another
    one is deleting.
    """

    name = "retention"

    def __init__(
        self,
        broker: PgmqOrchestrationBroker,
        *,
        age: timedelta,
        batch_size: int = 100,
        pause_seconds: float = 60.0,
    ) -> None:
        self._broker = broker
        self._age = age
        self._batch_size = batch_size
        self._pause_seconds = pause_seconds
        self._after = _BEGINNING
        self._deleted: Counter[str] = Counter()

    async def tick(self) -> float:
        """Delete one batch; pause after the last one of a walk."""
        batch = await self._broker.delete_old_tasks(self._batch_size, self._age, self._after)
        self._deleted.update(batch.rows)
        if batch.last_uuid is not None:
            self._after = batch.last_uuid
            if self._deleted["tasks"] >= _TASKS_PER_REPORT:
                self._report()
            return _BREATH_SECONDS if batch.rows else 0
        self._after = _BEGINNING
        self._deleted["poison_messages"] += await self._broker.delete_old_poison(self._batch_size, self._age)
        self._report()
        return self._pause_seconds

    def _report(self) -> None:
        """Log what went since the last report."""
        rows = dict(+self._deleted)
        self._deleted.clear()
        if rows:
            log.info("old_tasks_deleted", tasks=rows.pop("tasks", 0), rows=rows)
