"""The wake-up of a loop that handles messages: hints first, and a look at the queues behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tasker.persistence.failures import is_transient
from tasker.persistence.listener import Listener, Wakeup
from tasker.persistence.operations.queues import any_messages
from tasker.persistence.queries import Queries
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

#: How often loops poll while hints may get lost, or messages are there that come back without a hint.
POLL_SECONDS: Final = 1.0
#: How seldom empty queues are looked at, at most, while hints arrive.
LONGEST_POLL_SECONDS: Final = 5.0


class MessageWakeup(Wakeup):
    """Lets a loop rest while its queues are empty and hints arrive.

    Instead of the loop it looks itself, twice as seldom each time, and wakes the loop if any message is there: its hint
    was lost, or it was put off, and comes back without one. So nobody is late for a message that is due.
    """

    def __init__(self, queries: Queries, queues: Sequence[str], listener: Listener) -> None:
        """Prepare it; hints that the listener brings set it once it is subscribed to their channels."""
        super().__init__()
        self._queries = queries
        self._queues = list(queues)
        self._listener = listener
        listener.subscribe_connection(self)  # without it the loop polls

    async def idle(self, seconds: float) -> frozenset[str] | None:
        """Wait for a wake-up, but at most `seconds` while hints may get lost or any message is in the queues.

        Less than a poll is the time until something known is due; that is kept.
        """
        if seconds < POLL_SECONDS:
            return await self.wait(seconds)
        while (
            not await self._set_within(seconds)
            and self._listener.is_connected
            and await self._nothing_there()
        ):
            seconds = min(seconds * 2, LONGEST_POLL_SECONDS)
        return self._take()

    async def _nothing_there(self) -> bool:
        try:
            return not await any_messages(self._queries, self._queues)
        except Exception as error:
            if not is_transient(error):
                log.exception("queues_not_looked_at", queues=self._queues)
            return False  # the loop will find out, and knows what to do about it
