"""The one timer: retries, expiries, deadlines and callbacks that are due."""

from __future__ import annotations

import structlog

from tasker.messaging.pgmq import PgmqOrchestrationBroker
from tasker.orchestration.loops.results import BUSY_SECONDS

log = structlog.get_logger(__name__)


class TimerLoop:
    """Wakes tasks whose `wake_at` has come and sleeps until the next one; an earlier one that commits hints it.

    Tasks whose time is up are cancelled with all their steps.
    """

    name = "timers"

    def __init__(
        self, broker: PgmqOrchestrationBroker, *, batch_size: int = 100, poll_seconds: float = 5.0
    ) -> None:
        self._broker = broker
        self._batch_size = batch_size
        self._poll_seconds = poll_seconds

    async def tick(self) -> float:
        """Wake one batch."""
        woken, next_due, expired = await self._broker.wake_tasks(self._batch_size)
        for task_uuid in expired:
            log.info("task_expired", task_uuid=str(task_uuid))
        if woken >= self._batch_size:
            return 0
        if next_due is None:
            return self._poll_seconds
        # A task that is due already was skipped because it is busy: look again in a moment, not at once.
        return min(next_due if next_due > 0 else BUSY_SECONDS, self._poll_seconds)
