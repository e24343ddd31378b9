"""What no retry can help: found by trying the messages of a failing batch one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from tasker.messaging.pgmq import PgmqOrchestrationBroker
from tasker.persistence.database import is_transient

log = structlog.get_logger(__name__)


class PoisonSearch:
    """Handles a queue's messages singly and records those that fail on their own."""

    def __init__(self, broker: PgmqOrchestrationBroker, queue: str, *, batch_size: int) -> None:
        self._broker = broker
        self._queue = queue
        self._batch_size = batch_size

    async def run(self, handle_one: Callable[[int], Awaitable[object]]) -> int:
        """Try every visible message of a batch; return how many were poison.

        A failure of the database is raised, never held against a message. Poison that cannot be recorded stays, and
        its failure is raised when the others have had their turn.
        """
        found = 0
        refusal: Exception | None = None
        for msg_id in await self._broker.visible(self._queue, self._batch_size):
            try:
                await handle_one(msg_id)
            except Exception as error:
                if is_transient(error):
                    raise
                try:
                    found += await self._record(msg_id, f"{type(error).__name__}: {error}"[:500])
                except Exception as failure:
                    if is_transient(failure):
                        raise
                    refusal = failure
        if refusal is not None:
            raise refusal
        return found

    async def _record(self, msg_id: int, summary: str) -> bool:
        recorded = await self._broker.record_poison(self._queue, msg_id, summary)
        if recorded:
            log.error("message_poisoned", queue=self._queue, msg_id=msg_id, error=summary)
        return recorded
