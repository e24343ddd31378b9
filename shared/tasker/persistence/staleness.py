"""What the loops that look after standing tasks do in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.staleness import Reaction, StalenessLimits
from tasker.persistence.database import Database

#: Held by the instance that detects right now: "stale", in ASCII.
_LOCK_KEY: Final = 0x7374616C65


@dataclass(frozen=True, slots=True)
class StaleTask:
    """A task that has been where it is for too long, when it was looked at.

    Attributes:
        lifecycle: What its template says about that, as stored.
        since: When the clock of its state started.
    """

    task_uuid: UUID
    state: str
    namespace: str
    name: str
    lifecycle: Mapping[str, Any] | None
    since: datetime
    time_in_state_minutes: float
    threshold_minutes: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A moment in which to detect.

    Attributes:
        granted: Whether no other instance is at it.
        now: The engine's clock.
        connected_times: How many times this instance has connected so far.
    """

    granted: bool
    now: datetime
    connected_times: int


class StandingTasks:
    """Finds tasks that stand still and deals with them, one transaction a task."""

    def __init__(self, database: Database) -> None:
        self._turns = database.session()
        self._work = database.sessions()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Keep other instances from detecting as long as the context is open."""
        async with self._turns.transaction() as transaction:
            connection = transaction.connection
            cursor = await connection.execute(
                b"SELECT pg_try_advisory_xact_lock(%s), tasker.now()", (_LOCK_KEY,)
            )
            ((granted, now),) = await cursor.fetchall()
            yield Turn(granted, now, self._turns.connected_times)

    async def stale(
        self, limits: StalenessLimits, limit: int, *, after: StaleTask | None = None
    ) -> list[StaleTask]:
        """Return stale tasks without a pending entry, longest in their state first.

        Args:
            limits: For tasks whose template sets none.
            limit: No more than this.
            after: The last task of the page before.
        """
        behind: Sequence[Any] = (after.since, after.task_uuid) if after else ("-infinity", UUID(int=0))
        rows = await self._work.fetch_tuples(
            b"SELECT * FROM tasker.stale_tasks_v1(%s, %s, %s::timestamptz, %s)",
            (Jsonb(limits.to_json()), limit, *behind),
        )
        return [StaleTask(*row) for row in rows]

    async def close_stale(
        self, task: StaleTask, limits: StalenessLimits, reaction: Reaction
    ) -> tuple[bool, UUID | None]:
        """Do what is to be done about a stale task, unless it moved on or somebody holds it.

        Returns:
            Whether it was done, and the entry if one was made.
        """
        ((closed, dlq_entry_uuid),) = await self._work.fetch_tuples(
            b"SELECT closed, dlq_entry_uuid FROM tasker.close_stale_task_v1(%s, %s, %s, %s, %s)",
            (task.task_uuid, task.state, Jsonb(limits.to_json()), reaction.adds_entry, reaction.fails),
        )
        return closed, dlq_entry_uuid

    async def give_up(self, age: timedelta, limit: int) -> list[UUID]:
        """Move tasks to `error` that failures have blocked for this long; return them."""
        ((tasks,),) = await self._work.fetch_tuples(b"SELECT tasker.give_up_tasks_v1(%s, %s)", (age, limit))
        return list(tasks)

    async def investigate_unserved(self, grace: timedelta, limit: int) -> dict[str, int]:
        """Make entries for tasks whose steps have been queued for this long with no live worker.

        Returns:
            How many, by namespace.
        """
        rows = await self._work.fetch_tuples(
            b"SELECT namespace, tasks FROM tasker.add_unserved_entries_v1(%s, %s)", (grace, limit)
        )
        return dict(rows)

    async def close(self) -> None:
        """Close all sessions."""
        await self._turns.close()
        await self._work.close()
