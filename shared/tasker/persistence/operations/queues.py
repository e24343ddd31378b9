"""What is in the queues."""

from __future__ import annotations

from typing import Final

from tasker.persistence.queries import Queries

_VISIBLE: Final = "SELECT tasker.visible_messages_v1(%s, %s)"


async def visible_messages(queries: Queries, queue: str, limit: int) -> list[int]:
    """Return the ids of up to `limit` messages that nobody has taken or put off, the oldest first."""
    return await queries.fetch_values(_VISIBLE, (queue, limit))
