"""Reading tasks and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.errors import InvalidArgumentError, StepNotFoundError, TaskerError, TaskNotFoundError
from tasker.domain.results import StepExecutionResult
from tasker.domain.states import StepState, TaskState
from tasker.persistence.database import Database
from tasker.persistence.queries import Queries, statement

#: What the results of the steps of one answer take together, as JSON text of PostgreSQL, before the rest is left out.
STEPS_RESULT_BYTES: Final = 1536 * 1024


@dataclass(frozen=True, slots=True)
class FailingStep:
    """The step of a task that a person looks at first: failed for good, or in backoff.

    Attributes:
        attempts: How many were made.
        next_retry_at: When it is tried again; None if it failed for good.
        result: Its last one in brief: without backtrace, and with the beginning of the message. None if there is none.
    """

    step_uuid: UUID
    name: str
    state: StepState
    attempts: int
    max_attempts: int
    next_retry_at: datetime | None
    result: StepExecutionResult | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FailingStep:
        """Read what the database says."""
        due = data["next_retry_at"]
        return cls(
            step_uuid=UUID(data["step_uuid"]),
            name=data["name"],
            state=StepState(data["state"]),
            attempts=data["attempts"],
            max_attempts=data["max_attempts"],
            next_retry_at=datetime.fromisoformat(due) if due else None,
            result=StepExecutionResult.from_json(data["result"]),
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task came to be over that is in `error` or was cancelled.

    Attributes:
        at: When.
        reason: Why; None where nobody said so.
        requested_by: Who cancelled it, if that was said.
    """

    at: datetime
    reason: str | None
    requested_by: str | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ending:
        """Read what the database says."""
        said = data["metadata"] or {}
        return cls(datetime.fromisoformat(data["at"]), said.get("reason"), said.get("requested_by"))


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task and its counts. In flight spans `enqueued` to the notification states.

    Attributes:
        failing_step: Where a step is failed or in backoff, the one to look at first.
        ending: Where the task is in `error` or was cancelled.
    """

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
    failing_step: FailingStep | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step with its readiness and its newest result as stored.

    Attributes:
        envelope: The result; where only its failure was asked for, or there is no room for it, a failure in brief.
        results_omitted: Whether there is more of the result than the envelope holds.
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
    results_omitted: bool
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


#: A step's whole result.
_WHOLE: Final = """jsonb_build_object(
    'step_uuid', s.step_uuid, 'success', r.success, 'status', r.status, 'result', r.result, 'error', r.error,
    'metadata', r.metadata, 'orchestration_metadata', r.orchestration)"""
#: What a page shows of it: whether it failed, and why.
_BRIEF: Final = """jsonb_build_object(
    'success', r.success, 'status', r.status,
    'error', CASE WHEN r.error IS NOT NULL THEN jsonb_build_object(
        'message', CASE jsonb_typeof(r.error -> 'message') WHEN 'string' THEN left(r.error ->> 'message', 500) END,
        'error_type', r.error -> 'error_type',
        'retryable', r.error -> 'retryable', 'status_code', r.error -> 'status_code') END,
    'metadata', CASE WHEN NOT r.success THEN jsonb_build_object(
        'error_code', r.metadata -> 'error_code', 'error_type', r.metadata -> 'error_type', 'context',
        jsonb_build_object('exception_class', r.metadata -> 'context' -> 'exception_class')) END)"""


def tasks_statement(keys: str, *, context: str) -> str:
    """Return the statement that reads tasks, whose rows `task_record` takes.

    Args:
        keys: A query for their task_uuid.
        context: What to read of their context.
    """
    text = statement("tasks").replace("{failure}", _BRIEF)
    return text.replace("{keys}", keys).replace("{context}", context)


_KEY: Final = "SELECT %(task)s::uuid AS task_uuid"
_TASK: Final = tasks_statement(_KEY, context="t.context")
#: The same without its context. Parameters: task; at, null for now.
TASK_WITHOUT_CONTEXT: Final = tasks_statement(_KEY, context="'{}'::jsonb")
_ROOM: Final = """(%(bytes)s::bigint IS NOT NULL
    AND (row_number() OVER page = 1 OR sum(r.size) OVER page <= %(bytes)s::bigint))"""
_STEPS: Final = (
    statement("steps").replace("{room}", _ROOM).replace("{whole}", _WHOLE).replace("{brief}", _BRIEF)
)
_TASK_OF_STEP: Final = statement("task_of_step")


def task_record(
    *,
    state: TaskState,
    failing_step: Mapping[str, Any] | None,
    ending: Mapping[str, Any] | None,
    **columns: Any,
) -> TaskRecord:
    """Return the record of a row."""
    return TaskRecord(
        state=state,
        failing_step=FailingStep.from_json(failing_step) if failing_step else None,
        ending=Ending.from_json(ending) if ending else None,
        **columns,
    )


class TaskReader:
    """Answers questions about tasks and their steps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, task_uuid: UUID) -> TaskRecord | None:
        """Return a task, or None."""
        return await read_task(self._database, task_uuid)

    async def with_steps(self, task_uuid: UUID, *, in_brief: bool = False) -> TaskWithSteps | None:
        """Return a task and its steps, or None when there is no such task.

        Their results come as far as `STEPS_RESULT_BYTES` go, the first always; `in_brief` nothing but why they failed.
        """
        async with self._database.snapshot() as snapshot:
            return await read_task_with_steps(snapshot, task_uuid, in_brief=in_brief)

    async def state(self, task_uuid: UUID) -> TaskState | None:
        """Return the state of a task, or None when there is no such task."""
        state = await self._database.fetch_value(
            "SELECT state FROM tasker.tasks WHERE task_uuid = %s", (task_uuid,)
        )
        return TaskState(state) if state is not None else None

    async def steps(
        self, task_uuid: UUID, *, after: UUID | None = None, skip: int = 0, limit: int | None = None
    ) -> StepPage:
        """Return steps of a task, oldest first, with results as far as `STEPS_RESULT_BYTES` go, the first always.

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
            InvalidArgumentError: The step belongs to another task, as far as `no_such_step` sees.
            StepNotFoundError: The task has no such step.
            TaskNotFoundError: There is no such task.
        """
        # The uuid just before it: what follows that one is the step, if it exists.
        before = UUID(int=max(step_uuid.int - 1, 0))
        async with self._database.snapshot() as snapshot:
            for step in await _steps(snapshot, task_uuid, after=before, limit=1):
                if step.step_uuid == step_uuid:
                    return step
            raise await no_such_step(snapshot, task_uuid, step_uuid)


async def read_task(queries: Queries, task_uuid: UUID, *, at: datetime | None = None) -> TaskRecord | None:
    """Read a task; which of its steps are ready is counted by the engine's clock now, or when it said `at`."""
    return await queries.fetch_one(task_record, _TASK, {"task": task_uuid, "at": at})


async def read_task_with_steps(
    queries: Queries, task_uuid: UUID, *, in_brief: bool = False
) -> TaskWithSteps | None:
    """Read a task and its steps, `in_brief` with no more of their results than why they failed."""
    steps = await _steps(queries, task_uuid, in_brief=in_brief)
    # One clock for both: a retry may become due meanwhile.
    task = await read_task(queries, task_uuid, at=steps[0].read_at if steps else None)
    return TaskWithSteps(task, steps) if task is not None else None


async def no_such_step(queries: Queries, task_uuid: UUID, step_uuid: UUID) -> TaskerError:
    """Return why a task has no such step: it is another task's, or one of the two does not exist.

    A step that was added to its task later is not seen to be another task's: nothing is indexed by step alone.
    """
    if await queries.fetch_value(_TASK_OF_STEP, {"step": step_uuid}) is not None:
        return InvalidArgumentError.of("step_uuid", f"step {step_uuid} belongs to another task")
    if await _step_count(queries, task_uuid) is None:
        return TaskNotFoundError(task_uuid)
    return StepNotFoundError(step_uuid, task_uuid)


async def _steps(
    queries: Queries,
    task_uuid: UUID,
    *,
    after: UUID | None = None,
    skip: int = 0,
    limit: int | None = None,
    in_brief: bool = False,
) -> list[StepRecord]:
    room = None if in_brief else STEPS_RESULT_BYTES
    params = {"task": task_uuid, "after": after, "skip": skip, "limit": limit, "bytes": room}
    return await queries.fetch_all(StepRecord, _STEPS, params)


async def _step_count(queries: Queries, task_uuid: UUID) -> int | None:
    count: int | None = await queries.fetch_value(
        "SELECT total_steps FROM tasker.tasks WHERE task_uuid = %s", (task_uuid,)
    )
    return count
