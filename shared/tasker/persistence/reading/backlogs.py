"""Reading how much waits for workers and for orchestration, at a cost that does not grow with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tasker.persistence.queries import Queries, statement

#: Up to so many messages of a queue are counted; more are estimated.
MOST_EXACT: Final = 10_000

_BACKLOGS: Final = statement("backlogs")


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many messages wait for the workers of a namespace; None stands for orchestration."""

    namespace: str | None
    depth: int


class BacklogReader:
    """Reads how much waits."""

    def __init__(self, queries: Queries, orchestration_queues: list[str]) -> None:
        self._queries = queries
        self._orchestration_queues = orchestration_queues

    async def backlogs(self) -> list[Backlog]:
        """Return what waits in each namespace, and for orchestration."""
        return await self._queries.fetch_all(
            Backlog, _BACKLOGS, {"orchestration": self._orchestration_queues, "exact": MOST_EXACT}
        )
