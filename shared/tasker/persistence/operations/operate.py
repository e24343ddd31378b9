"""What operators do to steps and tasks by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.persistence.queries import Queries, Transaction

_LOCK_STEP: Final = """
    SELECT %(task_uuid)s AS task_uuid, %(step_uuid)s AS step_uuid, task_state, step_state, name, step_type
    FROM tasker.lock_step_v1(%(task_uuid)s, %(step_uuid)s)
"""
_LOCK_TASKS: Final = "SELECT tasker.lock_listed_tasks_v1(%s::uuid[])"
_ACT_ON_STEP: Final = "SELECT tasker.act_on_step_v1(%s, %s, %s, %s, %s::text::jsonb, %s::text::jsonb)"
_RESUME: Final = """
    SELECT from_state, failed, resumed FROM tasker.resume_by_hand_v1(%s, %s) WHERE from_state IS NOT NULL
"""
_RETRY: Final = """
    SELECT from_state, reset_steps FROM tasker.retry_task_v1(%s, %s) WHERE from_state IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class LockedStep:
    """A step to act on; its task and itself are locked.

    Attributes:
        task_state: None when there is no such task.
        step_state: None when the task has no such step; so are the name and the type then.
    """

    task_uuid: UUID
    step_uuid: UUID
    task_state: str | None
    step_state: str | None
    name: str | None
    step_type: str | None


@dataclass(frozen=True, slots=True)
class ResumedTask:
    """A task that was to go on.

    Attributes:
        from_state: Where it was.
        failed: How many of its steps are in `error`.
        resumed: Whether it goes on.
    """

    from_state: str
    failed: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class RetriedTask:
    """A task whose failed steps were to be reset.

    Attributes:
        from_state: Where it was.
        reset_steps: The names of the steps that were; None if there were none, or the task is over for good.
    """

    from_state: str
    reset_steps: list[str] | None


async def lock_tasks(transaction: Transaction, task_uuids: Sequence[UUID]) -> None:
    """Lock some tasks, each before any of their steps; those that do not exist are passed over."""
    await transaction.execute(_LOCK_TASKS, (list(task_uuids),))


async def lock_step(transaction: Transaction, task_uuid: UUID, step_uuid: UUID) -> LockedStep:
    """Lock a task and one of its steps."""
    step = await transaction.fetch_one(
        LockedStep, _LOCK_STEP, {"task_uuid": task_uuid, "step_uuid": step_uuid}
    )
    assert step is not None
    return step


async def act_on_step(
    transaction: Transaction,
    step: LockedStep,
    to_state: str,
    metadata: Mapping[str, Any],
    *,
    result: str | None = None,
    result_metadata: str | None = None,
) -> None:
    """Move a step, with its result as JSON text if it gets one, and advance its task."""
    await transaction.execute(
        _ACT_ON_STEP,
        (step.task_uuid, step.step_uuid, to_state, Jsonb(metadata), result, result_metadata),
    )


async def resume_by_hand(
    queries: Queries, task_uuid: UUID, metadata: Mapping[str, Any]
) -> ResumedTask | None:
    """Resume a task in `error` of which no step is; return None if there is no such task."""
    return await queries.fetch_one(ResumedTask, _RESUME, (task_uuid, Jsonb(metadata)))


async def retry_task(queries: Queries, task_uuid: UUID, metadata: Mapping[str, Any]) -> RetriedTask | None:
    """Reset all failed steps of a task, which goes on; return None if there is no such task."""
    return await queries.fetch_one(RetriedTask, _RETRY, (task_uuid, Jsonb(metadata)))
