"""Tasks of the engine as a test looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tasker.client.bridge import Bridge
from tasker.domain.errors import TaskerError
from tasker.domain.results import StepExecutionResult
from tasker.domain.states import StepState, TaskState
from tasker.persistence.reading.tasks import StepRecord, TaskReader, TaskWithSteps


class TaskNotOverError(TaskerError):
    """Nothing more happens to a task by itself, at whatever time, and still it is not over."""

    reason = "TASK_NOT_OVER"


@dataclass(frozen=True, slots=True)
class Step:
    """A step as it is stored.

    Attributes:
        name: As the template has it; instances of a batch have names of their own.
        state: Where it stands.
        attempts: How many were made.
        max_attempts: How many there may be.
        next_retry_at: When it is tried again by the engine's clock; None if it does not wait for that.
        outcome: What its last attempt stored; None before the first one has ended.
    """

    name: str
    state: StepState
    attempts: int
    max_attempts: int
    next_retry_at: datetime | None
    outcome: StepExecutionResult | None

    @property
    def result(self) -> Any:
        """What its handler returned, as later steps see it stored; None unless it succeeded."""
        return self.outcome.result if self.outcome is not None and self.outcome.success else None


class Task:
    """A task of the engine. Its properties read the database each time: they are as of now.

    Attributes:
        task_uuid: Its identity.
    """

    def __init__(self, task_uuid: UUID, reader: TaskReader, bridge: Bridge) -> None:
        self.task_uuid = task_uuid
        self._reader = reader
        self._bridge = bridge

    def __repr__(self) -> str:
        return f"<Task {self.task_uuid}>"

    @property
    def state(self) -> TaskState:
        """Where it stands; compares with texts, as in `task.state == "complete"`."""
        return self._bridge.run(self._read()).task.state

    @property
    def steps(self) -> Mapping[str, Step]:
        """Its steps by name, those that decisions and batches have added included."""
        return self._bridge.run(self._steps())

    @property
    def results(self) -> Mapping[str, Any]:
        """What its successful steps stored, by name."""
        return {
            name: step.outcome.result
            for name, step in self.steps.items()
            if step.outcome is not None and step.outcome.success
        }

    def step(self, name: str) -> Step:
        """Return a step by name.

        Raises:
            KeyError: It has none of this name; with those that it has.
        """
        steps = self.steps
        if name not in steps:
            raise KeyError(f"the task has no step {name!r}; it has {', '.join(steps)}")
        return steps[name]

    async def _steps(self) -> dict[str, Step]:
        steps = {}
        for record in (await self._read()).steps:
            whole = record
            if record.results_omitted:
                whole = await self._reader.step(self.task_uuid, record.step_uuid)
            steps[record.name] = _step(whole)
        return steps

    async def _read(self) -> TaskWithSteps:
        found = await self._reader.with_steps(self.task_uuid)
        if found is None:
            raise LookupError(f"task {self.task_uuid} is not there: it belongs to an earlier test")
        return found


def _step(record: StepRecord) -> Step:
    return Step(
        name=record.name,
        state=record.state,
        attempts=record.attempts,
        max_attempts=record.max_attempts,
        next_retry_at=record.next_retry_at,
        outcome=StepExecutionResult.from_json(record.envelope),
    )
