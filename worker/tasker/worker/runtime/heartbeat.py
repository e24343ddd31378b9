"""Renews the leases of all open claims and the worker's own sign of life, beside the loop that handlers run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread
from typing import Final
from uuid import UUID

from tasker.domain.retry import LEASE_RENEWAL
from tasker.persistence.failures import patiently
from tasker.persistence.operations.renew import renew_leases
from tasker.persistence.operations.workers import beat
from tasker.persistence.sessions import Session
from tasker.telemetry.logs import get_logger
from tasker.worker.runtime.claims import OpenClaims
from tasker.worker.runtime.slots import Slots

log = get_logger(__name__)

#: Shorter than elsewhere, since the leases run out meanwhile.
_LONGEST_PAUSE_SECONDS: Final = 1.0


class Heartbeat:
    """Renews every ten seconds and stops handlers whose lease is lost.

    It runs in a thread, on a loop and a connection of its own: a handler that blocks the loop of all others must not
    make their leases run out.
    """

    def __init__(
        self,
        session: Session,
        worker_uuid: UUID,
        claims: OpenClaims,
        slots: Slots,
        cancel: Callable[[UUID], None],
    ) -> None:
        """`session` is used by nobody else; `cancel` is called on the loop that starts the heartbeat."""
        self._session = session
        self._worker_uuid = worker_uuid
        self._claims = claims
        self._slots = slots
        self._cancel = cancel

    def start(self) -> None:
        """Begin to renew; belongs to the loop it is called on."""
        self._handlers_loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._beating = self._loop.create_task(self._beat())
        Thread(target=self._serve, name="heartbeat", daemon=True).start()

    async def stop(self) -> None:
        """Renew no more, and disconnect."""
        self._loop.call_soon_threadsafe(self._beating.cancel)
        await self._ended.wait()

    async def tick(self) -> int:
        """Renew once; return how many leases were lost."""
        claims = self._claims.all()
        lost = await renew_leases(self._session, [step.lease for step in claims.values()])
        for step_uuid in lost:
            step = claims[step_uuid]
            if step in self._claims:  # else it was claimed anew
                self._handlers_loop.call_soon_threadsafe(self._cancel, step_uuid)
        if not await beat(self._session, self._worker_uuid, slots_in_use=self._slots.in_use):
            log.warning(
                "heartbeat_not_noted", problem="somebody has locked tasker.workers; leases are renewed"
            )
        return len(lost)

    def _serve(self) -> None:
        try:
            with self._runner:
                self._runner.run(_until_done(self._beating))
        finally:
            self._handlers_loop.call_soon_threadsafe(self._ended.set)

    async def _beat(self) -> None:
        try:
            await self._renew_forever()
        finally:
            await self._session.close()

    async def _renew_forever(self) -> None:
        while True:
            try:
                await patiently(
                    self.tick, "heartbeat_interrupted", longest_pause_seconds=_LONGEST_PAUSE_SECONDS
                )
                await asyncio.sleep(LEASE_RENEWAL.total_seconds())
            except Exception:
                log.exception("heartbeat_failed")
                await asyncio.sleep(_LONGEST_PAUSE_SECONDS)


async def _until_done(task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))
