"""Claiming steps, whatever the database does and whichever message is in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from tasker.messaging.pgmq import PgmqWorkerBroker
from tasker.messaging.poison import PoisonSearch
from tasker.persistence.failures import is_transient, patiently
from tasker.persistence.operations.claim import ClaimedStep
from tasker.telemetry.logs import get_logger
from tasker.worker.handlers.registry import HandlerRegistry

log = get_logger(__name__)


class StepClaimer:
    """Claims steps for the handlers there are, and tries again for as long as that fails."""

    def __init__(self, broker: PgmqWorkerBroker, registry: HandlerRegistry, stopping: asyncio.Event) -> None:
        """`stopping` is set when nothing more shall be claimed."""
        self._broker = broker
        self._registry = registry
        self._stopping = stopping
        self._poison = PoisonSearch(broker)

    async def claim(self, queues: Sequence[str], limit: int) -> list[ClaimedStep]:
        """Claim up to `limit` steps, from the first queues first."""
        return await patiently(
            lambda: self._claim(queues, limit),
            "claim_interrupted",
            outlasts=lambda _: True,  # whatever it is, it may pass, and nobody else claims for this worker
        )

    async def _claim(self, queues: Sequence[str], limit: int) -> list[ClaimedStep]:
        if self._stopping.is_set():
            return []
        try:
            return await self._broker.claim(queues, self._registry.offers(), limit)
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("claim_failed", queues=list(queues))
            if steps := await self._claim_singly(queues, limit):
                return steps
            raise

    async def _claim_singly(self, queues: Sequence[str], limit: int) -> list[ClaimedStep]:
        """Search the queues for poison; return what was claimed meanwhile, whatever stopped the search."""
        claimed: list[ClaimedStep] = []
        try:
            for queue in queues:
                room = limit - len(claimed)
                await self._poison.run(queue, room, partial(self._claim_one, claimed, queue))
        except Exception:
            log.exception("poison_search_failed", queues=list(queues))
        return claimed

    async def _claim_one(self, claimed: list[ClaimedStep], queue: str, msg_id: int) -> None:
        claimed += await self._broker.claim([queue], self._registry.offers(), 1, only=msg_id)
