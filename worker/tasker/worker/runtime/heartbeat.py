"""Renews the leases of all open claims, and the worker's own sign of life, in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog

from tasker.domain.leases import LEASE_RENEWAL
from tasker.messaging.pgmq import PgmqWorkerBroker
from tasker.persistence.failures import patiently
from tasker.worker.runtime.claims import OpenClaims

log = structlog.get_logger(__name__)

#: Shorter than elsewhere, since the leases run out meanwhile.
_LONGEST_PAUSE_SECONDS: Final = 1.0


class Heartbeat:
    """Renews every ten seconds and stops handlers whose lease is lost."""

    def __init__(self, broker: PgmqWorkerBroker, claims: OpenClaims, cancel: Callable[[UUID], None]) -> None:
        self._broker = broker
        self._claims = claims
        self._cancel = cancel

    async def tick(self) -> int:
        """Renew once; return how many leases were lost."""
        claims = self._claims.snapshot()
        lost = await self._broker.renew([step.lease for step in claims.values()])
        for step_uuid in lost:
            step = claims[step_uuid]
            if step in self._claims:  # else it has ended, or was claimed anew
                log.warning("lease_lost", step_uuid=str(step_uuid), step_name=step.name)
                self._cancel(step_uuid)
        return len(lost)

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            try:
                await patiently(
                    self.tick, "heartbeat_interrupted", longest_pause_seconds=_LONGEST_PAUSE_SECONDS
                )
                await asyncio.sleep(LEASE_RENEWAL.total_seconds())
            except Exception:
                log.exception("heartbeat_failed")
                await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
