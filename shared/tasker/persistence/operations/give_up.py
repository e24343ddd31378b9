"""Ending tasks that are stuck."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.staleness import Reaction, StalenessLimits
from tasker.persistence.operations.staleness import StaleTask
from tasker.persistence.queries import Queries

_CLOSE_STALE: Final = "SELECT closed, dlq_entry_uuid FROM tasker.close_stale_task_v1(%s, %s, %s, %s, %s)"
_GIVE_UP: Final = "SELECT tasker.give_up_tasks_v1(%s, %s)"


@dataclass(frozen=True, slots=True)
class ClosedTask:
    """What became of a stale task.

    Attributes:
        closed: Whether it was dealt with; it may have moved on, or be locked.
        dlq_entry_uuid: The entry, if one was made.
    """

    closed: bool
    dlq_entry_uuid: UUID | None


async def close_stale_task(
    queries: Queries, task: StaleTask, limits: StalenessLimits, reaction: Reaction
) -> ClosedTask:
    """Do what is to be done about a stale task, unless it moved on or somebody has locked it."""
    closed = await queries.fetch_one(
        ClosedTask,
        _CLOSE_STALE,
        (task.task_uuid, task.state, Jsonb(limits.to_json()), reaction.adds_entry, reaction.fails),
    )
    assert closed is not None
    return closed


async def give_up_tasks(queries: Queries, age: timedelta, limit: int) -> list[UUID]:
    """Move up to `limit` tasks to `error` that failures have blocked for `age`; return them."""
    return list(await queries.fetch_value(_GIVE_UP, (age, limit)))
