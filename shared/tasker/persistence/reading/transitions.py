"""Reading transitions as they are committed: what watches of tasks stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.states import StepState, TaskState
from tasker.persistence.database import Database
from tasker.persistence.queries import statement
from tasker.persistence.reading.tasks import TASK_WITHOUT_CONTEXT, TaskRecord, task_record


@dataclass(frozen=True, slots=True)
class TransitionRecord:
    """A committed change of state of a task (`step_uuid` None) or of one of its steps.

    Attributes:
        at: When; never before an earlier one of the same task or step, though the clock was set back.
    """

    task_uuid: UUID
    step_uuid: UUID | None
    step_name: str | None
    sort_key: int
    from_state: str
    to_state: str
    attempt: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """What to read of a task.

    Attributes:
        task_uuid: The task.
        steps: Whether to include its steps.
        snapshot: What has been seen of it; None for nothing.
    """

    task_uuid: UUID
    steps: bool
    snapshot: str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one statement found.

    Attributes:
        snapshot: What it could see: where the next one goes on.
        read_at: The engine's clock then.
        transitions: Those of each line, in the order in which they were asked for.
    """

    snapshot: str
    read_at: datetime
    transitions: list[list[TransitionRecord]]


@dataclass(frozen=True, slots=True)
class WatchedStep:
    """A step as it is when a watch begins."""

    step_uuid: UUID
    name: str
    state: StepState
    attempts: int


@dataclass(frozen=True, slots=True)
class WatchedTask:
    """A task as a watch of it begins, without its context.

    Attributes:
        task: The task.
        steps: Its steps, oldest first, if they were asked for.
        snapshot: What was seen of both.
        read_at: The engine's clock then.
    """

    task: TaskRecord
    steps: list[WatchedStep]
    snapshot: str
    read_at: datetime


@dataclass(frozen=True, slots=True)
class _TransitionRow(TransitionRecord):
    """A row of the reading.

    Attributes:
        found: Whether there is a transition; a row without one only brings snapshot and instant.
        line: Whose it is, counted from 1.
    """

    snapshot: str
    read_at: datetime
    found: bool
    line: int


_TRANSITIONS: Final = statement("transitions")
_WATCHED_TASK: Final = statement("watched_task").replace("{task}", TASK_WITHOUT_CONTEXT)

#: However many watches begin at once, their reading takes no more connections than this.
_MOST_SESSIONS: Final = 4


class TransitionReader:
    """Reads what was committed since an earlier reading.

    In sessions of its own, whose plans are made once: a watch reads several times for each task, and planning would
    take longer than reading.
    """

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions(at_most=_MOST_SESSIONS)

    async def transitions(self, lines: Sequence[Line], *, until: str | None = None) -> Reading:
        """Return what was committed on some tasks since each of them was last read.

        Args:
            lines: Which tasks, and what has been seen of each.
            until: Leave out what this snapshot cannot see.
        """
        places: dict[str, int] = {}
        for line in lines:
            if line.snapshot is not None:
                places.setdefault(line.snapshot, len(places) + 1)
        rows = await self._sessions.fetch_all(
            _TransitionRow,
            _TRANSITIONS,
            {
                "tasks": [line.task_uuid for line in lines],
                "steps": [line.steps for line in lines],
                "places": [places.get(line.snapshot or "") for line in lines],
                "snapshots": list(places),
                "until": until,
            },
        )
        found: list[list[TransitionRecord]] = [[] for _ in lines]
        for row in rows:
            if row.found:
                found[row.line - 1].append(row)
        return Reading(rows[0].snapshot, rows[0].read_at, found)

    async def task(self, task_uuid: UUID, *, steps: bool) -> WatchedTask | None:
        """Return a task, on request with its steps, and the snapshot it is seen in; None if there is no such task."""
        return await self._sessions.fetch_one(
            _watched_task, _WATCHED_TASK, {"task": task_uuid, "at": None, "steps": steps}
        )

    async def close(self) -> None:
        """Close the sessions."""
        await self._sessions.close()


def _watched_task(
    *,
    state: TaskState,
    snapshot: str,
    read_at: datetime,
    step_uuids: list[UUID] | None,
    step_names: list[str] | None,
    step_states: list[str] | None,
    step_attempts: list[int] | None,
    **columns: Any,
) -> WatchedTask:
    """Return the record of a row; of its steps each column is an array, null if there are none."""
    steps = zip(step_uuids or (), step_names or (), step_states or (), step_attempts or (), strict=True)
    return WatchedTask(
        task_record(state=state, **columns),
        [
            WatchedStep(step_uuid, name, StepState(state), attempts)
            for step_uuid, name, state, attempts in steps
        ],
        snapshot,
        read_at,
    )
