"""Renews the leases of all open claims, and the worker's own sign of life, in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog

from tasker.domain.retry import LEASE_RENEWAL
from tasker.persistence.failures import patiently
from tasker.persistence.operations.renew import renew_leases
from tasker.persistence.queries import Queries
from tasker.worker.runtime.claims import OpenClaims

log = structlog.get_logger(__name__)

#: Shorter than elsewhere, since the leases run out meanwhile.
_LONGEST_PAUSE_SECONDS: Final = 1.0


class Heartbeat:
    """Renews every ten seconds and stops handlers whose lease is lost."""

    def __init__(
        self, queries: Queries, worker_uuid: UUID, claims: OpenClaims, cancel: Callable[[UUID], None]
    ) -> None:
        self._queries = queries
        self._worker_uuid = worker_uuid
        self._claims = claims
        self._cancel = cancel

    async def tick(self) -> int:
        """Renew once; return how many leases were lost."""
        claims = self._claims.all()
        leases = [step.lease for step in claims.values()]
        lost = await renew_leases(self._queries, self._worker_uuid, leases)
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
