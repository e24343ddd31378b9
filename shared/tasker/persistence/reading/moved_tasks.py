"""Reading what moves among all tasks: what watches of many tasks stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tasker.persistence.database import Database
from tasker.persistence.queries import statement
from tasker.persistence.reading.cursors import Snapshot


@dataclass(frozen=True, slots=True)
class MovedTask:
    """A committed change of state of a task, with what tells the task from others.

    Attributes:
        at: When; never before an earlier one of the same task, though the clock was set back.
    """

    task_uuid: UUID
    namespace: str
    name: str
    tags: list[str]
    correlation_id: UUID
    sort_key: int
    from_state: str
    to_state: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MovedTasks:
    """What has moved since an earlier reading.

    Attributes:
        snapshot: Where the next reading goes on.
        read_at: The engine's clock when it was read.
        moved: In the order of their instants.
        more: Whether more had been committed by then.
    """

    snapshot: str
    read_at: datetime
    moved: list[MovedTask]
    more: bool


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task that is not over."""

    task_uuid: UUID
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Now:
    """What can be seen now, and the engine's clock."""

    snapshot: str
    read_at: datetime


@dataclass(frozen=True, slots=True)
class _MovedRow(MovedTask):
    """A row of the reading.

    Attributes:
        found: Whether there is a transition; a row without one only brings snapshot and instant.
        known: Whether the task is still there.
        place: For which of the snapshots, counted from 1.
        xid: Its transaction.
    """

    snapshot: str
    read_at: datetime
    found: bool
    known: bool
    place: int
    xid: str


_MOVED_TASKS: Final = statement("moved_tasks")
_OPEN_TASKS: Final = statement("open_tasks")
_NOW: Final = "SELECT pg_current_snapshot()::text AS snapshot, tasker.now() AS read_at"


class MovedTaskReader:
    """Reads what moves among all tasks, in a session of its own."""

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions(at_most=2)

    async def now(self) -> Now:
        """Return what can be seen now."""
        now = await self._sessions.fetch_one(Now, _NOW)
        assert now is not None
        return now

    async def moved(self, snapshots: Sequence[str], *, most: int) -> dict[str, MovedTasks]:
        """Return what was committed since each of some snapshots, in one statement.

        Args:
            snapshots: Each once, in their exact text.
            most: How many transitions of each are enough; a transaction that has begun is read to its end.
        """
        rows = await self._sessions.fetch_all(
            _MovedRow, _MOVED_TASKS, {"snapshots": list(snapshots), "most": most}
        )
        of_place: list[list[_MovedRow]] = [[] for _ in snapshots]
        for row in rows:
            if row.found:
                of_place[row.place - 1].append(row)
        return {
            snapshot: _moved(snapshot, found, most=most, now=Now(rows[0].snapshot, rows[0].read_at))
            for snapshot, found in zip(snapshots, of_place, strict=True)
        }

    async def open_tasks(
        self,
        *,
        namespace: str | None,
        name: str | None,
        tags: Sequence[str],
        correlation_id: UUID | None,
        most: int,
    ) -> list[OpenTask]:
        """Return tasks that are not over and match, no more than `most` of them."""
        return await self._sessions.fetch_all(
            OpenTask,
            _OPEN_TASKS,
            {
                "namespace": namespace,
                "name": name,
                "tags": list(tags),
                "correlation_id": correlation_id,
                "most": most,
            },
        )

    async def close(self) -> None:
        """Close the sessions."""
        await self._sessions.close()


def _moved(snapshot: str, rows: list[_MovedRow], *, most: int, now: Now) -> MovedTasks:
    seen, current = Snapshot.parse(snapshot), Snapshot.parse(now.snapshot)
    assert seen is not None
    assert current is not None
    later = [xid for row in rows if (xid := int(row.xid)) >= seen.upcoming]
    more = len(later) >= most
    upto = str(current.until(max(later))) if more else now.snapshot
    return MovedTasks(upto, now.read_at, [row for row in rows if row.known], more)
