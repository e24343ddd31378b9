"""Reading the messages that nobody could handle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.persistence.queries import Queries, statement


@dataclass(frozen=True, slots=True)
class PoisonRecord:
    """A message that no retry could help, taken out of its queue.

    Attributes:
        msg_id: Its number in the queue.
        message: What it said.
        error: What failed over it.
        task_uuid: The task it named; None if it named none. The task may be gone or never have been.
        step_uuid: The step likewise; if it was in flight, it has moved to `error`.
    """

    poison_id: int
    queue: str
    msg_id: int
    message: Any
    error: str
    task_uuid: UUID | None
    step_uuid: UUID | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class PoisonCounts:
    """How many were recorded lately, at most 10,000 counted."""

    last_hour: int
    last_day: int


_MESSAGES: Final = statement("poison_messages")
_COUNTS: Final = statement("poison_counts")


class PoisonReader:
    """Answers questions about poison messages."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def newest(self, *, task_uuid: UUID | None = None, limit: int = 50) -> list[PoisonRecord]:
        """Return the newest records first, of one task or of all."""
        return await self._queries.fetch_all(PoisonRecord, _MESSAGES, {"task": task_uuid, "limit": limit})

    async def counts(self) -> PoisonCounts:
        """Return how many were recorded lately."""
        (counts,) = await self._queries.fetch_all(PoisonCounts, _COUNTS)
        return counts
