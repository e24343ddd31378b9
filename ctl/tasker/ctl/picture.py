"""A task as a picture of its graph: steps by level, each level below the one it waits for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasker.client import StepState, StepUpdate, Task, TaskState, TaskUpdate, Template
from tasker.ctl.output import brief, shown
from tasker.ctl.tables import REASON, state
from tasker.ctl.task_views import template_name

_MARKS: Final[Mapping[StepState, str]] = {
    StepState.PENDING: "·",
    StepState.ENQUEUED: "○",
    StepState.IN_PROGRESS: "●",
    StepState.WAITING_FOR_RETRY: "↻",
    StepState.ERROR: "✘",
    StepState.CANCELLED: "-",
    StepState.COMPLETE: "✔",
    StepState.RESOLVED_MANUALLY: "✔",
}

#: What an instance of a batch has behind the name that the template knows.
_INSTANCE: Final = re.compile(r"_[0-9]{3,}$", re.ASCII)


@dataclass(slots=True)
class StepView:
    """A step as far as it was watched.

    Attributes:
        name: The step.
        level: How many steps lie between it and the start of the graph, at most.
        parents: The steps it waits for.
        state: Where it stands.
        attempt: Attempts made so far.
        began: When the last attempt began.
        ended: When it left that attempt.
        why: Why that attempt failed, if it did and somebody said why.
    """

    name: str
    level: int
    parents: tuple[str, ...]
    state: StepState = StepState.PENDING
    attempt: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    why: str = ""

    def move(self, update: StepUpdate) -> None:
        """Take an update."""
        self.state, self.attempt, self.why = update.state, update.attempt, ""
        if update.state is StepState.IN_PROGRESS:
            self.began, self.ended = update.at, None
        elif self.ended is None:
            self.ended = update.at

    def took(self, now: datetime) -> str:
        """Return how long the last attempt took, or has taken so far."""
        if self.began is None:
            return ""
        seconds = max(timedelta(0), (self.ended or now) - self.began).total_seconds()
        return f"{seconds * 1000:.0f} ms" if self.ended and seconds < 1 else f"{seconds:.1f} s"


@dataclass(slots=True)
class TaskPicture:
    """The steps of a task by level, moved by what is heard of them.

    Attributes:
        task: The task when watching began.
        state: Where it stands.
        steps: Its steps by name, in the order of their levels.
        room: How many lines a picture may have; with more steps than that each level becomes one line.
    """

    task: Task
    state: TaskState
    steps: dict[str, StepView]
    room: int
    _parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _level_of: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, names: Iterable[str], template: Template | None, *, room: int) -> TaskPicture:
        """Return the picture of a task.

        Args:
            task: The task.
            names: Its steps.
            template: Its template, which knows who waits for whom; without it all steps are on one level.
            room: How many lines there are.
        """
        parents = {step.name: step.dependencies for step in template.steps} if template else {}
        picture = cls(task, task.state, {}, room, parents, _levels(parents))
        for name in sorted(names, key=lambda name: picture._level_of.get(name, 0)):
            picture.steps[name] = picture._new(name)
        return picture

    def move(self, update: TaskUpdate | StepUpdate) -> None:
        """Take an update."""
        if isinstance(update, TaskUpdate):
            self.state = update.state
            return
        if update.name not in self.steps:  # a decision or a batch has just created it
            grown = {**self.steps, update.name: self._new(update.name)}
            # In one go: the picture is drawn by another thread.
            self.steps = dict(sorted(grown.items(), key=lambda item: item[1].level))
        self.steps[update.name].move(update)

    def explain(self, update: StepUpdate, reason: str) -> None:
        """Take why an attempt at a step failed."""
        self.steps[update.name].why = reason

    def __rich__(self) -> RenderableType:
        head = Text.assemble(
            "task ", str(self.task.task_uuid), "  ", template_name(self.task), "  ", state(self.state),
            f"  {self.done}/{len(self.steps)} steps",
        )  # fmt: skip
        return Group(head, self._list() if len(self.steps) < self.room else self._summary())

    @property
    def done(self) -> int:
        """How many steps need nothing more."""
        return sum(step.state.satisfies_children for step in self.steps.values())

    def _new(self, name: str) -> StepView:
        known = name if name in self._level_of else _INSTANCE.sub("", name)
        return StepView(name, self._level_of.get(known, 0), self._parents.get(known, ()))

    def _list(self) -> Table:
        now = datetime.now(UTC)
        grid = Table.grid(padding=(0, 2))
        last = -1
        for step in self.steps.values():
            waits = step.state is StepState.PENDING and step.parents
            grid.add_row(
                Text(str(step.level + 1) if step.level != last else "", "dim"),
                _marked(step),
                state(step.state),
                step.took(now) or (shown(f"after {', '.join(step.parents)}", "dim") if waits else ""),
                f"attempt {step.attempt}" if step.attempt > 1 else "",
                brief(step.why, REASON, "red"),
            )
            last = step.level
        return grid

    def _summary(self) -> Table:
        """Return one line a level: how many of its steps are in which state."""
        counts: dict[int, Counter[StepState]] = {}
        for step in self.steps.values():
            counts.setdefault(step.level, Counter())[step.state] += 1
        grid = Table.grid(padding=(0, 2))
        for level, states in counts.items():
            parts = [Text.assemble(f"{count} ", state(one)) for one, count in states.items()]
            grid.add_row(Text(str(level + 1), "dim"), Text(", ").join(parts))
        return grid


def _marked(step: StepView) -> Text:
    mark = _MARKS.get(step.state, "●")
    return Text.assemble((mark, state(step.state).style), " ", shown(step.name))


def _levels(parents: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Return the level of each step: one more than the highest of those it waits for, from 0."""
    sorter = TopologicalSorter(parents)
    sorter.prepare()
    level_of: dict[str, int] = {}
    number = 0
    while sorter.is_active():
        ready = sorter.get_ready()
        level_of |= dict.fromkeys(ready, number)
        sorter.done(*ready)
        number += 1
    return level_of
