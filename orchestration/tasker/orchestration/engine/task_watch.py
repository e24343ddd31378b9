"""What a watcher of one task is told: how it stands, every committed change, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias
from uuid import UUID

from tasker.domain.errors import TaskNotFoundError
from tasker.domain.states import StepState, TaskState
from tasker.orchestration.engine.streams import Group
from tasker.orchestration.engine.telling import Telling
from tasker.orchestration.engine.watching import Watching
from tasker.persistence.reading.cursors import scope
from tasker.persistence.reading.tasks import StepRecord, TaskReader, TaskWithSteps
from tasker.persistence.reading.transitions import (
    Line,
    TransitionReader,
    TransitionRecord,
    WatchedTask,
)

#: How many failed steps an ending names.
_MOST_PROBLEMS: Final = 20

_GOOD_ENDS: Final = (TaskState.COMPLETE, TaskState.RESOLVED_MANUALLY)


class Kind(StrEnum):
    """What a change is about."""

    TASK_CHANGE = "task_change"
    STEP_CHANGE = "step_change"
    COMPLETE = "complete"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What to watch.

    Attributes:
        task_uuid: The task.
        resume_cursor: Go on behind it; empty for the whole history, None to begin with how the task stands.
        steps: Whether to tell what its steps do.
        step_names: Only of these steps; empty for all.
        kinds: Only changes of these kinds; empty for all.
        heartbeat_seconds: Give a sign of life when there was nothing to tell for so long; None for none.
    """

    task_uuid: UUID
    resume_cursor: str | None = None
    steps: bool = False
    step_names: frozenset[str] = frozenset()
    kinds: frozenset[Kind] = frozenset()
    heartbeat_seconds: float | None = None

    def shows(self, kind: Kind) -> bool:
        """Whether changes of a kind are told."""
        return not self.kinds or kind in self.kinds

    def shows_transition(self, transition: TransitionRecord) -> bool:
        """Whether a transition is told."""
        if transition.step_uuid is None:
            return self.shows(Kind.TASK_CHANGE)
        return self.shows(Kind.STEP_CHANGE) and (
            not self.step_names or transition.step_name in self.step_names
        )


@dataclass(frozen=True, slots=True)
class Present:
    """How the task stands when the watch begins; continues with `cursor`."""

    watched: WatchedTask
    at: datetime
    cursor: str


@dataclass(frozen=True, slots=True)
class Change:
    """A committed transition. The last one of those that were read at once carries the cursor behind all of them."""

    transition: TransitionRecord
    cursor: str | None


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """There was nothing to tell until `at`."""

    at: datetime
    cursor: str


@dataclass(frozen=True, slots=True)
class Ending:
    """The task is settled, and nothing follows.

    Attributes:
        error_message: Which steps failed and why, if it did not end well.
    """

    state: TaskState
    error_message: str | None
    at: datetime
    cursor: str

    @property
    def kind(self) -> Kind:
        """Whether it is a good end."""
        return Kind.COMPLETE if self.state in _GOOD_ENDS else Kind.ERROR


Told: TypeAlias = Present | Change | SignOfLife | Ending


class TaskWatch:
    """Watches tasks, one at a time."""

    def __init__(self, watching: Watching, reader: TaskReader, transitions: TransitionReader) -> None:
        self._watching = watching
        self._reader = reader
        self._transitions = transitions

    async def watch(self, request: WatchRequest) -> AsyncGenerator[Told, None]:
        """Tell what happens to a task, in the order of the commits, until it is settled.

        Without a cursor it begins with how the task stands. Instants never run backwards: a change that was committed
        after one with a later instant is told with that one's.

        Raises:
            InvalidArgumentError: The cursor is not one of this task's.
            ResourceExhaustedError: What is told was not taken in time; go on with the last cursor.
            TaskNotFoundError: There is no such task.
            UnavailableError: The orchestrator stops, or the database is away; go on with the last cursor.
        """
        telling = Telling(
            scope("task", request.task_uuid.bytes),
            request.resume_cursor,
            heartbeat_seconds=request.heartbeat_seconds,
        )
        # Before what comes after a cursor, so that nothing can end in between. A whole history names the state itself.
        state = await self._reader.state(request.task_uuid) if request.resume_cursor else None
        async with self._watching.task(request.task_uuid, steps=request.steps) as stream:
            if request.resume_cursor is None:
                watched = await self._present(request)
                state = watched.task.state
                group: Group[TransitionRecord] = Group(watched.snapshot, watched.read_at, [])
                self._watching.begin(stream, group.snapshot, group.read_at)
                yield Present(watched, telling.tell(watched.read_at), telling.cursor(watched.snapshot))
            else:
                group = await self._history(request, telling)
                self._watching.begin(stream, group.snapshot, group.read_at)
            while True:
                state = _state_after(group.items) or state
                if state is None:
                    raise TaskNotFoundError(request.task_uuid)
                for change in _changes(request, group, telling):
                    yield change
                if state.is_settled and (ending := await self._ending(request, state, group, telling)):
                    if request.shows(ending.kind):
                        yield ending
                    return
                while True:
                    stream.cursor = telling.cursor(group.snapshot)
                    group = await stream.take(telling.patience())
                    if group.items:
                        break
                    at = telling.tell(group.read_at)
                    yield SignOfLife(at, telling.cursor(group.snapshot))

    async def _present(self, request: WatchRequest) -> WatchedTask:
        """Return how the task stands, of its steps those that are shown."""
        watched = await self._transitions.task(request.task_uuid, steps=request.steps)
        if watched is None:
            raise TaskNotFoundError(request.task_uuid)
        if not request.step_names:
            return watched
        return replace(watched, steps=[step for step in watched.steps if step.name in request.step_names])

    async def _history(self, request: WatchRequest, telling: Telling) -> Group[TransitionRecord]:
        """Return everything behind the cursor."""
        reading = await self._transitions.transitions([Line(request.task_uuid, request.steps, telling.seen)])
        telling.check(reading.snapshot)
        return Group(reading.snapshot, reading.read_at, reading.transitions[0])

    async def _ending(
        self, request: WatchRequest, state: TaskState, group: Group[TransitionRecord], telling: Telling
    ) -> Ending | None:
        """Return the end; None if the task has moved on since its transition to this state was read."""
        message = None
        if state not in _GOOD_ENDS:
            found = await self._reader.with_steps(request.task_uuid, in_brief=True)
            if found is not None and found.task.state is not state:
                return None
            message = _problems(found) or f"the task is {state.value}"
        # As of the change that led to it.
        ended = (one.at for one in reversed(group.items) if one.step_uuid is None)
        at = telling.tell(next(ended, telling.told_at or group.read_at))
        return Ending(state, message, at, telling.cursor(group.snapshot))


def _changes(request: WatchRequest, group: Group[TransitionRecord], telling: Telling) -> Iterator[Change]:
    shown = [transition for transition in group.items if request.shows_transition(transition)]
    last = len(shown) - 1
    for index, transition in enumerate(shown):
        at = telling.tell(transition.at)
        told = transition if at == transition.at else replace(transition, at=at)
        yield Change(told, telling.cursor(group.snapshot) if index == last else None)


def _state_after(transitions: list[TransitionRecord]) -> TaskState | None:
    return next((TaskState(t.to_state) for t in reversed(transitions) if t.step_uuid is None), None)


def _problems(found: TaskWithSteps | None) -> str:
    failed = [step for step in found.steps if step.state is StepState.ERROR] if found else []
    told = [_problem(step) for step in failed[:_MOST_PROBLEMS]]
    if len(failed) > len(told):
        told.append(f"and {len(failed) - len(told)} more failed")
    return "; ".join(told)


def _problem(step: StepRecord) -> str:
    error = (step.envelope or {}).get("error") or {}
    return f"step '{step.name}' failed after {step.attempts} of {step.max_attempts} attempts: {error.get('message')}"
