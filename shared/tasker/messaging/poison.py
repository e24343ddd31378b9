"""What no retry can help: found by trying the messages of a queue one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from tasker.persistence.failures import is_transient
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


class Searched(Protocol):
    """What the search needs of a broker, whichever side it serves."""

    async def visible(self, queue: str, limit: int) -> list[int]:
        """Return the ids of the oldest visible messages."""

    async def record_poison(self, queue: str, msg_id: int, error: str) -> bool:
        """Take a message out of its queue; tell whether it was still there."""


class PoisonSearch:
    """Tries the messages of a queue singly and records those that fail on their own."""

    def __init__(self, broker: Searched) -> None:
        self._broker = broker

    async def run(self, queue: str, limit: int, try_one: Callable[[int], Awaitable[object]]) -> None:
        """Try up to `limit` visible messages, the oldest first.

        A failure of the database is raised, never held against a message. Poison that cannot be recorded stays, and
        its failure is raised when the others have been handled.
        """
        refusal: Exception | None = None
        for msg_id in await self._broker.visible(queue, limit):
            try:
                await try_one(msg_id)
            except Exception as error:
                if is_transient(error):
                    raise
                try:
                    await self._record(queue, msg_id, f"{type(error).__name__}: {error}"[:500])
                except Exception as failure:
                    if is_transient(failure):
                        raise
                    refusal = failure
        if refusal is not None:
            raise refusal

    async def _record(self, queue: str, msg_id: int, summary: str) -> None:
        if await self._broker.record_poison(queue, msg_id, summary):
            log.error("message_poisoned", queue=queue, msg_id=msg_id, error=summary)
