"""Processing plain successes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tasker.persistence.queries import Queries

_PROCESS: Final = "SELECT handled, delayed, top_msg_id FROM tasker.process_results_v1(%s, %s, %s)"


@dataclass(frozen=True, slots=True)
class ProcessedResults:
    """How many results were processed.

    Attributes:
        handled: Messages processed.
        delayed: Messages put back for a moment because their task was busy.
        top_msg_id: The highest id among the messages that were read; None if there were none.
    """

    handled: int
    delayed: int
    top_msg_id: int | None


async def process_results(
    queries: Queries, limit: int, *, low_water: int, only: int | None = None
) -> ProcessedResults:
    """Complete the steps of up to `limit` plain successes, and advance their tasks.

    Args:
        queries: Where.
        limit: No more than this.
        low_water: The message above which to read.
        only: The one message to take, in the search for poison.
    """
    processed = await queries.fetch_one(ProcessedResults, _PROCESS, (limit, low_water, only))
    assert processed is not None
    return processed
