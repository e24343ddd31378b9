"""Workers that stopped renewing: their steps get a `worker_lost` result."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from tasker.domain.leases import LEASE
from tasker.messaging.pgmq import PgmqOrchestrationBroker

log = structlog.get_logger(__name__)


class LeaseSweeper:
    """Submits a failure for steps whose lease has expired, so that they run again.

    It waits one lease time after each (re)connect: while it could not reach the database, workers may not have
    been able to renew either.
    """

    name = "leases"

    def __init__(
        self, broker: PgmqOrchestrationBroker, *, batch_size: int = 100, poll_seconds: float = 5.0
    ) -> None:
        self._broker = broker
        self._batch_size = batch_size
        self._poll_seconds = poll_seconds
        self._connected_times = 0
        self._connected_at = datetime.min.replace(tzinfo=UTC)

    async def tick(self) -> float:
        """Sweep one batch."""
        connected_times, now = await self._broker.sweeping_session()
        if connected_times != self._connected_times:
            self._connected_times, self._connected_at = connected_times, now
        if now < self._connected_at + LEASE:
            return self._poll_seconds
        lost = await self._broker.sweep_leases(self._batch_size)
        if lost:
            log.warning("workers_lost", steps=lost)
        return 0 if lost >= self._batch_size else self._poll_seconds
