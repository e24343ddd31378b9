"""Workers that stopped renewing: their steps get a `worker_lost` result."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from tasker.domain.retry import LEASE
from tasker.persistence.operations.clock import now
from tasker.persistence.operations.sweep import sweep_leases
from tasker.persistence.sessions import Session

log = structlog.get_logger(__name__)


class LeaseSweeper:
    """Submits a failure for steps whose lease has expired, so that they run again.

    It waits one lease time after each (re)connect: while it could not reach the database, workers may not have
    been able to renew either.
    """

    name = "leases"

    def __init__(self, session: Session, *, group_size: int = 100, poll_seconds: float = 5.0) -> None:
        """`session` is its own, so that its connecting tells when it could not reach the database."""
        self._session = session
        self._group_size = group_size
        self._poll_seconds = poll_seconds
        self._connected_times = 0
        self._connected_at = datetime.min.replace(tzinfo=UTC)
        self._waited = False

    async def tick(self) -> float:
        """Sweep one group."""
        if await self._session.connect() != self._connected_times or not self._waited:
            instant = await now(self._session)
            if self._session.connected_times != self._connected_times:
                self._connected_times, self._connected_at = self._session.connected_times, instant
            self._waited = instant >= self._connected_at + LEASE
            if not self._waited:
                return self._poll_seconds
        lost = await sweep_leases(self._session, self._group_size)
        if lost:
            log.warning("workers_lost", steps=lost)
        return 0 if lost >= self._group_size else self._poll_seconds
