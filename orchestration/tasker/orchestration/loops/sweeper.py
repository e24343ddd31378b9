"""Workers that stopped renewing: their steps get a `worker_lost` result."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from tasker.domain.retry import LEASE
from tasker.persistence.operations.sweep import look_at_leases, sweep_leases
from tasker.persistence.sessions import Session
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


#: A tick that is late by so much, or takes so long, tells that nobody else got on either.
_SUSPICIOUS_SECONDS: Final = 5.0


class LeaseSweeper:
    """Submits a failure for steps whose lease has expired, so that they run again.

    It waits one lease time after each (re)connect, and whenever a tick was late or slow: while it could not reach the
    database, or the database stood still, workers may not have been able to renew either.
    """

    name = "leases"

    def __init__(
        self,
        session: Session,
        *,
        group_size: int = 100,
        poll_seconds: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`session` is its own, so that its connecting tells when it could not reach the database."""
        self._session = session
        self._group_size = group_size
        self._poll_seconds = poll_seconds
        self._monotonic = monotonic
        self._due = float("inf")
        self._connected_times = 0
        self._reached_at = datetime.min.replace(tzinfo=UTC)
        self._waited = False

    async def tick(self) -> float:
        """Sweep one group."""
        started = self._monotonic()
        connected_times, leases = await self._session.connect(), await look_at_leases(self._session)
        stood_still = self._monotonic() - min(started, self._due) > _SUSPICIOUS_SECONDS
        if stood_still or connected_times != self._connected_times:
            self._connected_times, self._reached_at = connected_times, leases.instant
            self._waited = False
        self._due = self._monotonic() + self._poll_seconds
        if not self._waited:
            self._waited = leases.instant >= self._reached_at + LEASE
        if not (self._waited and leases.expired):
            return self._poll_seconds
        lost = await sweep_leases(self._session, self._group_size)
        if lost:
            log.warning("workers_lost", steps=lost)
        return 0 if lost >= self._group_size else self._poll_seconds
