"""What a transaction holds while Python decides: results to judge, a step that an operator acts on, their tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.messaging.records import AppliedVerdict, StepToAdd, SubmittedStep, TaskStep
from tasker.persistence.connections import Connection


class HeldTasks:
    """Tasks that this transaction holds, and may add steps to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def steps(self, task_uuids: Sequence[UUID]) -> list[TaskStep]:
        """Return all steps of some of the tasks."""
        cursor = await self._connection.execute(
            b"SELECT * FROM tasker.task_steps_v1(%s::uuid[])", (list(task_uuids),)
        )
        return [TaskStep(*row) for row in await cursor.fetchall()]

    async def add_steps(self, environment: str, steps: Sequence[StepToAdd], *, batch_limit: int) -> None:
        """Add steps, and enqueue those that wait for nothing.

        Args:
            environment: Whose plans of the templates say how the steps are run.
            steps: What to add.
            batch_limit: How many instances of batches a task that gets some may have in flight.
        """
        await self._connection.execute(
            b"SELECT tasker.expand_tasks_v1(%s, %s::text::jsonb, %s::text::jsonb, %s)",
            (
                environment,
                json.dumps([_step_object(step, place) for place, step in enumerate(steps)]),
                json_array(step.inputs or "null" for step in steps),
                batch_limit,
            ),
        )


class Judgements:
    """Submitted steps whose tasks this transaction holds.

    Attributes:
        tasks: Those tasks.
        steps: What was submitted; a step whose message was delivered twice is there twice.
        delayed: How many messages were put back because their task is busy.
    """

    def __init__(self, connection: Connection, steps: Sequence[SubmittedStep], *, delayed: int) -> None:
        self._connection = connection
        self.tasks = HeldTasks(connection)
        self.steps = steps
        self.delayed = delayed

    async def apply(self, verdicts: Sequence[AppliedVerdict]) -> None:
        """Apply verdicts and advance the tasks."""
        await self._connection.execute(
            b"SELECT tasker.apply_verdicts_v1(%s::text::jsonb)",
            (
                json.dumps(
                    [
                        {
                            "task_uuid": str(verdict.task_uuid),
                            "step_uuid": str(verdict.step_uuid),
                            "verdict": verdict.verdict,
                            "delay_seconds": verdict.delay_seconds,
                            "reason": verdict.reason,
                            "replacement": verdict.replacement,
                        }
                        for verdict in verdicts
                    ]
                ),
            ),
        )


class HeldStep:
    """A step that an operator acts on; its task and itself are locked.

    Attributes:
        tasks: Its task.
        task_state: None when there is no such task.
        step_state: None when the task has no such step; so are the name and the type then.
    """

    def __init__(
        self,
        connection: Connection,
        task_uuid: UUID,
        step_uuid: UUID,
        *,
        task_state: str | None,
        step_state: str | None,
        name: str | None,
        step_type: str | None,
    ) -> None:
        self._connection = connection
        self.tasks = HeldTasks(connection)
        self._task_uuid = task_uuid
        self._step_uuid = step_uuid
        self.task_state = task_state
        self.step_state = step_state
        self.name = name
        self.step_type = step_type

    async def move(
        self,
        to_state: str,
        metadata: Mapping[str, Any],
        *,
        result: str | None = None,
        result_metadata: str | None = None,
    ) -> None:
        """Move the step, with its result as JSON text if it gets one, and advance the task."""
        await self._connection.execute(
            b"SELECT tasker.act_on_step_v1(%s, %s, %s, %s, %s::text::jsonb, %s::text::jsonb)",
            (self._task_uuid, self._step_uuid, to_state, Jsonb(metadata), result, result_metadata),
        )


def json_array(texts: Iterable[str]) -> str:
    """Return the JSON text of an array whose members are JSON texts already."""
    return f"[{','.join(texts)}]"


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
