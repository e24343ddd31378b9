"""Reading how much waits in queues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tasker.persistence.queries import Queries, statement

#: Messages of one queue are counted up to here.
MOST_COUNTED: Final = 10_000

_DEPTH: Final = statement("queue_depth")
_QUEUES: Final = statement("queues")
_PAUSES: Final = statement("pauses")


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """A queue and what is in it, `MOST_COUNTED` messages counted.

    Attributes:
        namespace: Whose steps it carries; None for the queues of orchestration, and so is the band.
        band: `high`, `normal` or `low`.
        visible: Messages that can be taken now.
        delayed: Messages that were put off.
        oldest_age_seconds: Age of the oldest message; None if there is none.
        workers: Live workers that serve the namespace.
    """

    name: str
    namespace: str | None
    band: str | None
    visible: int
    delayed: int
    oldest_age_seconds: float | None
    workers: int


@dataclass(frozen=True, slots=True)
class NamespacePause:
    """A namespace whose steps nobody claims: since when, who wanted it and why."""

    namespace: str
    paused_at: datetime
    requested_by: str
    reason: str


class QueueReader:
    """Answers questions about queues."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def depth(self, queues: Sequence[str]) -> int:
        """Return how many visible messages some queues hold together, `MOST_COUNTED` of each counted."""
        return int(await self._queries.fetch_value(_DEPTH, {"queues": list(queues), "most": MOST_COUNTED}))

    async def queues(self, namespace: str | None = None) -> list[QueueStatus]:
        """Return all queues that are in use, or those of a namespace."""
        return await self._queries.fetch_all(
            QueueStatus, _QUEUES, {"namespace": namespace, "most": MOST_COUNTED}
        )

    async def pauses(self) -> list[NamespacePause]:
        """Return the namespaces that are paused, by name."""
        return await self._queries.fetch_all(NamespacePause, _PAUSES)
