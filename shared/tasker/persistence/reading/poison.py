"""Reading the messages that nobody could handle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.states import StepState
from tasker.persistence.queries import Queries, statement

#: Records are counted up to here.
MOST_COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class PoisonRecord:
    """A message that no retry could help, taken out of its queue.

    Attributes:
        msg_id: Its number in the queue.
        message: What it said.
        error: What failed over it.
        task_uuid: The task it named; None if it named none. The task may be gone or never have been.
        step_uuid: The step likewise; if it was in flight, it has moved to `error`.
        step_state: Where that step is now; None if there is none.
    """

    poison_id: int
    queue: str
    msg_id: int
    message: Any
    error: str
    task_uuid: UUID | None
    step_uuid: UUID | None
    recorded_at: datetime
    step_state: StepState | None


@dataclass(frozen=True, slots=True)
class PoisonCounts:
    """How many were recorded lately, at most 10,000 counted."""

    last_hour: int
    last_day: int


_MESSAGES: Final = statement("poison_messages")
_COUNTS: Final = statement("poison_counts")
_TOTAL: Final = statement("poison_total")
_LARGEST_ID: Final = 2**63 - 1


class PoisonReader:
    """Answers questions about poison messages."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def newest(
        self, *, task_uuid: UUID | None = None, before: int | None = None, skip: int = 0, limit: int = 50
    ) -> list[PoisonRecord]:
        """Return the newest records first.

        Args:
            task_uuid: Only those of this task; None for all.
            before: Only those recorded before the one with this id.
            skip: Leave out so many of them.
            limit: Return no more than this.
        """
        return await self._queries.fetch_all(
            PoisonRecord,
            _of(task_uuid, _MESSAGES),
            {"task": task_uuid, "before": before, "skip": skip, "limit": limit},
        )

    async def get(self, poison_id: int) -> PoisonRecord | None:
        """Return one record, or None."""
        if poison_id >= _LARGEST_ID:  # there is no id behind it to ask with, and nobody gets there
            return None
        newest = await self.newest(before=poison_id + 1, limit=1)
        return newest[0] if newest and newest[0].poison_id == poison_id else None

    async def total(self, *, task_uuid: UUID | None = None) -> int:
        """Return how many records there are, of one task or of all; `MOST_COUNTED` are counted."""
        return int(
            await self._queries.fetch_value(_of(task_uuid, _TOTAL), {"task": task_uuid, "most": MOST_COUNTED})
        )

    async def counts(self) -> PoisonCounts:
        """Return how many were recorded lately."""
        (counts,) = await self._queries.fetch_all(PoisonCounts, _COUNTS)
        return counts


def _of(task_uuid: UUID | None, query: str) -> str:
    """Return a statement about the messages that named a task, or about all."""
    return query.replace("{which}", "true" if task_uuid is None else "p.task_uuid = %(task)s")
