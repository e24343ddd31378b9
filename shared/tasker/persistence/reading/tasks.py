"""Reading tasks and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.errors import InvalidArgumentError, StepNotFoundError, TaskNotFoundError
from tasker.domain.states import StepState, TaskState
from tasker.persistence.database import Database
from tasker.persistence.queries import Queries, statement


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task and its counts. In flight spans `enqueued` to the notification states."""

    task_uuid: UUID
    namespace: str
    name: str
    version: str
    state: TaskState
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
    """A step with its readiness and its newest result as stored.

    Attributes:
        read_at: The engine's clock by which it is ready.
    """

    task_uuid: UUID
    step_uuid: UUID
    name: str
    state: StepState
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


@dataclass(frozen=True, slots=True)
class TaskWithSteps:
    """A task and its steps, oldest first, as of the same moment."""

    task: TaskRecord
    steps: list[StepRecord]


@dataclass(frozen=True, slots=True)
class StepPage:
    """Some steps of a task and how many it has, as of the same moment."""

    total: int
    steps: list[StepRecord]


_TASK_OF_KEY: Final = statement("tasks").replace("{keys}", "SELECT %(task)s::uuid AS task_uuid")
_TASK: Final = _TASK_OF_KEY.replace("{context}", "t.context")
#: Reads a `TaskRecord` whose context is empty. Parameters: task; at, null for now.
TASK_WITHOUT_CONTEXT: Final = _TASK_OF_KEY.replace("{context}", "'{}'::jsonb")
_STEPS: Final = statement("steps")
_TASK_OF_STEP: Final = statement("task_of_step")


class TaskReader:
    """Answers questions about tasks and their steps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, task_uuid: UUID) -> TaskRecord | None:
        """Return a task, or None."""
        return await _task(self._database, task_uuid)

    async def with_steps(self, task_uuid: UUID) -> TaskWithSteps | None:
        """Return a task and its steps, or None when there is no such task."""
        async with self._database.snapshot() as snapshot:
            steps = await _steps(snapshot, task_uuid)
            # One clock for both: a retry may become due meanwhile.
            task = await _task(snapshot, task_uuid, at=steps[0].read_at if steps else None)
        return TaskWithSteps(task, steps) if task is not None else None

    async def state(self, task_uuid: UUID) -> TaskState | None:
        """Return the state of a task, or None when there is no such task."""
        state = await self._database.fetch_value(
            "SELECT state FROM tasker.tasks WHERE task_uuid = %s", (task_uuid,)
        )
        return TaskState(state) if state is not None else None

    async def steps(
        self, task_uuid: UUID, *, after: UUID | None = None, skip: int = 0, limit: int | None = None
    ) -> StepPage:
        """Return steps of a task, oldest first.

        Args:
            task_uuid: The task.
            after: Only the steps behind this one.
            skip: Leave out so many of them.
            limit: Return no more than this; None for all.

        Raises:
            TaskNotFoundError: There is no such task.
        """
        async with self._database.snapshot() as snapshot:
            total = await _step_count(snapshot, task_uuid)
            if total is None:
                raise TaskNotFoundError(task_uuid)
            return StepPage(total, await _steps(snapshot, task_uuid, after=after, skip=skip, limit=limit))

    async def step(self, task_uuid: UUID, step_uuid: UUID) -> StepRecord:
        """Return a step of a task.

        Raises:
            InvalidArgumentError: The step belongs to another task. One that was added to its task later is not seen
                to do so: nothing is indexed by step alone.
            StepNotFoundError: The task has no such step.
            TaskNotFoundError: There is no such task.
        """
        # The uuid just before it: what follows that one is the step, if it exists.
        before = UUID(int=max(step_uuid.int - 1, 0))
        async with self._database.snapshot() as snapshot:
            for step in await _steps(snapshot, task_uuid, after=before, limit=1):
                if step.step_uuid == step_uuid:
                    return step
            if await snapshot.fetch_value(_TASK_OF_STEP, {"step": step_uuid}) is not None:
                raise InvalidArgumentError.of("step_uuid", f"step {step_uuid} belongs to another task")
            if await _step_count(snapshot, task_uuid) is None:
                raise TaskNotFoundError(task_uuid)
        raise StepNotFoundError(step_uuid, task_uuid)


async def _task(queries: Queries, task_uuid: UUID, *, at: datetime | None = None) -> TaskRecord | None:
    """Read a task; which of its steps are ready is counted by the engine's clock now, or when it said `at`."""
    return await queries.fetch_one(TaskRecord, _TASK, {"task": task_uuid, "at": at})


async def _steps(
    queries: Queries,
    task_uuid: UUID,
    *,
    after: UUID | None = None,
    skip: int = 0,
    limit: int | None = None,
) -> list[StepRecord]:
    return await queries.fetch_all(
        StepRecord, _STEPS, {"task": task_uuid, "after": after, "skip": skip, "limit": limit}
    )


async def _step_count(queries: Queries, task_uuid: UUID) -> int | None:
    count: int | None = await queries.fetch_value(
        "SELECT total_steps FROM tasker.tasks WHERE task_uuid = %s", (task_uuid,)
    )
    return count
