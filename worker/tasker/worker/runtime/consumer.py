"""Claims steps while slots are free, and has them run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tasker.messaging.claim_order import ClaimOrder
from tasker.messaging.pgmq import PgmqWorkerBroker
from tasker.messaging.queues import channel
from tasker.persistence.listener import Wakeup
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.operations.finish import NextClaims
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.runtime.claiming import StepClaimer
from tasker.worker.runtime.running import StepRunner
from tasker.worker.runtime.slots import Slots
from tasker.worker.runtime.submitter import ResultSubmitter

_MAX_CLAIM: Final = 100
#: With a backlog, wait this long for several slots to come free instead of claiming one by one.
_LINGER_SECONDS: Final = 0.02


class StepConsumer:
    """Keeps the slots busy. A step is claimed only when a slot is free, so nothing is claimed and unstarted."""

    def __init__(
        self,
        broker: PgmqWorkerBroker,
        registry: HandlerRegistry,
        runner: StepRunner,
        submitter: ResultSubmitter,
        *,
        namespaces: Sequence[str],
        slots: Slots,
        poll_seconds: float,
        wakeup: Wakeup,
    ) -> None:
        """`wakeup` is set by hints on the consumer's channels."""
        self._registry = registry
        self._runner = runner
        self._submitter = submitter
        self._order = ClaimOrder(namespaces)
        self._queues = {channel(queue): queue for queue in self._order.queues()}
        self._slots = slots
        self._poll_seconds = poll_seconds
        self._wakeup = wakeup
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._emptied = False
        self._claimer = StepClaimer(broker, registry, self._stopping)

    @property
    def channels(self) -> Collection[str]:
        """Where hints for its queues arrive."""
        return self._queues.keys()

    async def run(self) -> None:
        """Claim and start steps until `drain`."""
        try:
            await self._run()
        finally:
            self._stopped.set()

    async def drain(self) -> None:
        """Claim no more, and wait for the steps that run, those of the last claim included."""
        self._stopping.set()
        self._wakeup.set()
        self._slots.wake()
        await self._stopped.wait()
        await self._runner.finish()

    @contextmanager
    def next_claims(self, finished: int) -> Iterator[NextClaims]:
        """Say what may be claimed of the steps that follow so many finished ones, and keep slots for them.

        No more than have finished, so that the steps of a fan-out spread over all workers; and none while older ones
        wait in the queues.
        """
        wanted = finished if self._emptied and not self._stopping.is_set() else 0
        with self._slots.reserved(wanted) as limit:
            yield NextClaims(limit, list(self._queues.values()), self._registry.offers())

    def start(self, step: ClaimedStep) -> None:
        """Run a step that was claimed so."""
        self._runner.start(step)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        hinted: set[str] | None = None
        looked_at = loop.time()  # when it last looked at every queue
        backlog = False
        while not self._stopping.is_set():
            await self._submitter.room()
            if self._slots.free <= 0:
                self._emptied = False
            free = await self._slots.wait_free(linger_seconds=_LINGER_SECONDS if backlog else 0)
            if not free or self._stopping.is_set():
                continue
            with self._slots.reserved(_MAX_CLAIM) as limit:
                steps = await self._claimer.claim(self._order.next(hinted), limit)
                for step in steps:
                    self._runner.start(step)
            backlog = len(steps) == limit
            self._emptied = not backlog
            if backlog:
                await asyncio.sleep(0)  # handlers that need no waiting finish first, and free their slots
                hinted = None
            else:
                if hinted is None:
                    looked_at = loop.time()
                news = await self._wakeup.idle(self._poll_seconds)
                # Hints for some queues, however many come, do not keep it from the others for longer than a poll.
                fresh = loop.time() < looked_at + self._poll_seconds
                hinted = {self._queues[name] for name in news} if news and fresh else None
