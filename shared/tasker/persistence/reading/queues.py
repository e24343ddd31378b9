"""Reading how much waits in queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tasker.persistence.queries import Queries, statement

#: Messages of one queue are counted up to here.
MOST_COUNTED: Final = 10_000

_DEPTH: Final = statement("queue_depth")


class QueueReader:
    """Answers questions about queues."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def depth(self, queues: Sequence[str]) -> int:
        """Return how many visible messages some queues hold together, `MOST_COUNTED` of each counted."""
        return int(await self._queries.fetch_value(_DEPTH, {"queues": list(queues), "most": MOST_COUNTED}))
