"""Reading tasks and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.states import TaskState
from tasker.persistence.database import Database
from tasker.persistence.statements import statement


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task and its counts. In flight spans `enqueued` to the notification states."""

    task_uuid: UUID
    namespace: str
    name: str
    version: str
    state: str
    priority: int
    correlation_id: UUID
    parent_correlation_id: UUID | None
    initiator: str
    source_system: str
    reason: str
    tags: list[str]
    context: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    total_steps: int
    satisfied_steps: int
    failed_steps: int
    in_flight_steps: int
    backoff_steps: int
    pending_steps: int
    in_progress_steps: int
    ready_steps: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step with its readiness and its newest result as stored."""

    task_uuid: UUID
    step_uuid: UUID
    name: str
    state: str
    attempts: int
    max_attempts: int
    retryable: bool
    total_parents: int
    unmet_parents: int
    backoff_request_seconds: int | None
    next_retry_at: datetime | None
    last_attempted_at: datetime | None
    last_failure_at: datetime | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    envelope: dict[str, Any] | None
    read_at: datetime


_TASK: Final = (
    statement("tasks").replace("{keys}", "SELECT %s::uuid AS task_uuid").replace("{context}", "t.context")
)
_STEPS: Final = statement("steps")
_TASK_OF_STEP: Final = statement("task_of_step")


class TaskReader:
    """Answers questions about tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, task_uuid: UUID) -> TaskRecord | None:
        """Return a task, or None."""
        row = await self._database.fetch_tuple(_TASK, (task_uuid,))
        return TaskRecord(*row) if row else None

    async def state(self, task_uuid: UUID) -> TaskState | None:
        """Return the state of a task, or None when there is no such task."""
        row = await self._database.fetch_tuple(
            "SELECT state FROM tasker.tasks WHERE task_uuid = %s", (task_uuid,)
        )
        return TaskState(row[0]) if row else None

    async def step_count(self, task_uuid: UUID) -> int | None:
        """Return how many steps a task has, or None when there is no such task."""
        row = await self._database.fetch_tuple(
            "SELECT total_steps FROM tasker.tasks WHERE task_uuid = %s", (task_uuid,)
        )
        return int(row[0]) if row else None

    async def steps(
        self, task_uuid: UUID, *, after: UUID | None = None, skip: int = 0, limit: int | None = None
    ) -> list[StepRecord]:
        """Return the steps of a task, oldest first.

        Args:
            task_uuid: The task.
            after: Only the steps behind this one.
            skip: Leave out so many of them.
            limit: Return no more than this; None for all.
        """
        rows = await self._database.fetch_tuples(
            _STEPS, {"task": task_uuid, "after": after, "skip": skip, "limit": limit}
        )
        return [StepRecord(*row) for row in rows]

    async def step(self, task_uuid: UUID, step_uuid: UUID) -> StepRecord | None:
        """Return a step of a task, or None when the task has no such step."""
        # The uuid just before it: what follows that one is the step, if it exists.
        before = UUID(int=max(step_uuid.int - 1, 0))
        steps = await self.steps(task_uuid, after=before, limit=1)
        return steps[0] if steps and steps[0].step_uuid == step_uuid else None

    async def task_of_step(self, step_uuid: UUID) -> UUID | None:
        """Return the task that a step belongs to; None when there is no such step, or it was added to its task later.

        For telling what is wrong with a request; where the task is known, `step` answers.
        """
        row = await self._database.fetch_tuple(_TASK_OF_STEP, {"step": step_uuid})
        return row[0] if row else None
