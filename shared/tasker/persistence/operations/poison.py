"""Recording the messages that nobody could handle."""

from __future__ import annotations

from typing import Final

from tasker.persistence.queries import Queries

_RECORD: Final = "SELECT tasker.record_poison_v1(%s, %s, %s)"


async def record_poison(queries: Queries, queue: str, msg_id: int, error: str) -> bool:
    """Take a message out of its queue and keep it for people; its step moves to `error` if it is in flight.

    Returns:
        Whether the message was still there.
    """
    return bool(await queries.fetch_value(_RECORD, (queue, msg_id, error)))
