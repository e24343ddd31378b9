"""Deleting what has been over for long enough."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from tasker.persistence.queries import Queries

_DELETE_TASKS: Final = "SELECT last_uuid, deleted AS rows FROM tasker.delete_old_tasks_v1(%s, %s, %s)"
_DELETE_POISON: Final = "SELECT tasker.delete_old_poison_v1(%s, %s)"


@dataclass(frozen=True, slots=True)
class DeletedTasks:
    """What one call deleted.

    Attributes:
        last_uuid: The youngest task it looked at; None when there is none behind it that may be old enough.
        rows: How many rows of each table went.
    """

    last_uuid: UUID | None
    rows: dict[str, int]


async def delete_old_tasks(queries: Queries, limit: int, age: timedelta, after: UUID) -> DeletedTasks:
    """Look at up to `limit` tasks behind `after`, oldest first, and delete those that ended `age` ago or more."""
    deleted = await queries.fetch_one(DeletedTasks, _DELETE_TASKS, (limit, age, after))
    assert deleted is not None
    return deleted


async def delete_old_poison(queries: Queries, limit: int, age: timedelta) -> int:
    """Delete up to `limit` poison records of `age` or more that no task needs; return how many."""
    return int(await queries.fetch_value(_DELETE_POISON, (limit, age)))
