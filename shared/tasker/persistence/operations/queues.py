"""Making queues, and looking at what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tasker.persistence.queries import Queries

_ENSURE: Final = "SELECT tasker.ensure_queue_v1(%s)"
_VISIBLE: Final = "SELECT tasker.visible_messages_v1(%s, %s)"
_ANY: Final = "SELECT tasker.any_messages_v1(%s)"


async def ensure_queue(queries: Queries, queue: str) -> None:
    """Make a queue if there is none of this name."""
    await queries.execute(_ENSURE, (queue,))


async def visible_messages(queries: Queries, queue: str, limit: int) -> list[int]:
    """Return the ids of up to `limit` messages that nobody has taken or put off, the oldest first."""
    return await queries.fetch_values(_VISIBLE, (queue, limit))


async def any_messages(queries: Queries, queues: Sequence[str]) -> bool:
    """Tell whether some queues hold a message, be it one that somebody has put off."""
    return bool(await queries.fetch_value(_ANY, (list(queues),)))
