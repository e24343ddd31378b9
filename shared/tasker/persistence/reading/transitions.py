"""Reading transitions as they are committed: what streams of task status stand on."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tasker.persistence.database import Database
from tasker.persistence.queries import statement


@dataclass(frozen=True, slots=True)
class TransitionRecord:
    """A committed change of state of a task (`step_uuid` None) or of one of its steps."""

    task_uuid: UUID
    step_uuid: UUID | None
    step_name: str | None
    sort_key: int
    from_state: str
    to_state: str
    attempt: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class _TransitionRow(TransitionRecord):
    """A row of the reading.

    Attributes:
        cursor: Where to go on after all of them.
        found: Whether there is a transition; a row without one only brings the cursor.
    """

    cursor: str
    found: bool


@dataclass(frozen=True, slots=True)
class _MovedRow:
    """A task that moved and where to go on after that; one row without a task where none did."""

    task_uuid: UUID | None
    cursor: str


_TRANSITIONS: Final = statement("transitions")
_MOVED_TASKS: Final = statement("moved_tasks")

#: A pg_snapshot: the oldest transaction in progress, the next to come, those in progress between the two.
_CURSOR: Final = re.compile(r"([0-9]{1,18}):([0-9]{1,18}):((?:[0-9]{1,18}(?:,[0-9]{1,18})*)?)", re.ASCII)

#: However many streams wake at once, their reading takes no more connections than this.
_MOST_SESSIONS: Final = 4


class TransitionReader:
    """Reads what was committed since an earlier reading.

    In sessions of its own, whose plans are made once: a stream reads several times for each task, and planning would
    take longer than reading.
    """

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions(at_most=_MOST_SESSIONS)

    async def transitions(
        self, task_uuids: Sequence[UUID], cursor: str | None, *, steps: bool
    ) -> tuple[str, list[TransitionRecord]]:
        """Return what was committed since the call that returned `cursor`, and the next cursor.

        Args:
            task_uuids: Whose transitions.
            cursor: From the call before; None for everything.
            steps: Whether to include those of the steps.
        """
        rows = await self._sessions.fetch_all(
            _TransitionRow, _TRANSITIONS, {"tasks": list(task_uuids), "cursor": cursor, "steps": steps}
        )
        return rows[0].cursor, [row for row in rows if row.found]

    async def moved_tasks(self, task_uuids: Sequence[UUID], cursor: str | None) -> tuple[str, list[UUID]]:
        """Return which of these tasks have transitions that the call which returned `cursor` could not see."""
        rows = await self._sessions.fetch_all(
            _MovedRow, _MOVED_TASKS, {"tasks": list(task_uuids), "cursor": cursor}
        )
        return rows[0].cursor, [row.task_uuid for row in rows if row.task_uuid is not None]

    def is_cursor(self, text: str) -> bool:
        """Tell whether a text can be a cursor that `transitions` returned."""
        if (found := _CURSOR.fullmatch(text)) is None:
            return False
        oldest, upcoming = int(found[1]), int(found[2])
        running = [int(xid) for xid in found[3].split(",") if xid]
        return 0 < oldest <= upcoming and all(
            low < high for low, high in itertools.pairwise([oldest - 1, *running, upcoming])
        )

    async def close(self) -> None:
        """Close the sessions."""
        await self._sessions.close()
