"""Cancelling tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.persistence.queries import Queries

_CANCEL: Final = """
    SELECT task_uuid, from_state, cancelled FROM tasker.cancel_open_tasks_v1(%s::uuid[], %s, %s)
"""


@dataclass(frozen=True, slots=True)
class CancelledTask:
    """A task that was to be cancelled.

    Attributes:
        from_state: Where it was.
        cancelled: Whether it was cancelled now; one that is over stays as it is.
    """

    task_uuid: UUID
    from_state: str
    cancelled: bool


async def cancel_open_tasks(
    queries: Queries, task_uuids: Sequence[UUID], metadata: Mapping[str, Any], *, all_or_nothing: bool = False
) -> dict[UUID, CancelledTask]:
    """Cancel those of some tasks that are open, with all their steps that are not over; return those that exist.

    Args:
        queries: Where.
        task_uuids: The tasks.
        metadata: What their transitions say.
        all_or_nothing: Whether none is cancelled if one of them does not exist.
    """
    tasks = await queries.fetch_all(
        CancelledTask, _CANCEL, (list(task_uuids), Jsonb(metadata), all_or_nothing)
    )
    return {task.task_uuid: task for task in tasks}
