"""Adding the steps that decisions and batches lead to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tasker.domain.storable import json_array
from tasker.persistence.queries import Transaction

_STEPS: Final = """
    SELECT task_uuid, template_digest, environment, step_uuid, name, template_step_name, state, ancestor_uuids
    FROM tasker.task_steps_v2(%s::uuid[])
"""
_EXPAND: Final = "SELECT tasker.expand_tasks_v1(%s, %s::text::jsonb, %s::text::jsonb, %s)"


@dataclass(frozen=True, slots=True)
class TaskStep:
    """A step of a locked task, as far as what to add to the task depends on it.

    Attributes:
        environment: Whose plan the task was created by; None in tasks that are older than this was stored.
    """

    task_uuid: UUID
    template_digest: bytes
    environment: str | None
    step_uuid: UUID
    name: str
    template_step_name: str
    state: str
    ancestor_uuids: list[UUID]


@dataclass(frozen=True, slots=True)
class StepToAdd:
    """A step to add to a running task.

    Attributes:
        parents: The steps it waits for.
        edges: The name of the edge from each parent.
        ancestors: The steps whose results it sees.
        inputs: JSON text; None takes those of the plan.
        batch_step_uuid: The step that split the work, for an instance of a batch; None otherwise, as the next two.
        batch_parallelism: How many of its instances may be in flight at once.
        batch_fail_fast: Whether one that failed holds back those that have not begun.
    """

    task_uuid: UUID
    step_uuid: UUID
    name: str
    template_step_name: str
    step_type: str
    parents: Sequence[UUID]
    edges: Sequence[str]
    ancestors: Sequence[UUID]
    inputs: str | None = None
    batch_step_uuid: UUID | None = None
    batch_parallelism: int | None = None
    batch_fail_fast: bool | None = None


async def task_steps(transaction: Transaction, task_uuids: Iterable[UUID]) -> list[TaskStep]:
    """Return all steps of tasks that are locked."""
    return await transaction.fetch_all(TaskStep, _STEPS, (sorted(task_uuids),))


async def expand_tasks(
    transaction: Transaction, environment: str, steps: Sequence[StepToAdd], *, batch_limit: int
) -> None:
    """Add steps to tasks that are locked, and enqueue those that wait for nothing.

    Args:
        transaction: What has locked the tasks.
        environment: Whose plans of the templates say how the steps are run, in tasks that do not know their own.
        steps: What to add.
        batch_limit: How many instances of batches a task that gets some may have in flight.
    """
    await transaction.execute(
        _EXPAND,
        (
            environment,
            json.dumps([_step_object(step, place) for place, step in enumerate(steps)]),
            json_array(step.inputs or "null" for step in steps),
            batch_limit,
        ),
    )


def _step_object(step: StepToAdd, place: int) -> dict[str, Any]:
    """Return the object that add_steps_v1 reads; its inputs, which are JSON text already, go beside it."""
    return {
        "task_uuid": str(step.task_uuid),
        "step_uuid": str(step.step_uuid),
        "name": step.name,
        "template_step_name": step.template_step_name,
        "step_type": step.step_type,
        "parents": [str(parent) for parent in step.parents],
        "edges": list(step.edges),
        "ancestors": [str(ancestor) for ancestor in step.ancestors],
        "batch_step_uuid": str(step.batch_step_uuid) if step.batch_step_uuid else None,
        "batch_parallelism": step.batch_parallelism,
        "batch_fail_fast": step.batch_fail_fast,
        "inputs": place if step.inputs else None,
    }
