"""What a transaction holds while Python decides: results to judge, a step that an operator acts on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.messaging.records import AppliedVerdict, SubmittedStep
from tasker.persistence.database import Connection


class Judgements:
    """Submitted steps whose tasks this transaction holds."""

    def __init__(self, connection: Connection, steps: Sequence[SubmittedStep], *, delayed: int) -> None:
        self._connection = connection
        self.steps = steps
        self.delayed = delayed

    async def apply(self, verdicts: Sequence[AppliedVerdict]) -> None:
        """Apply verdicts and advance the tasks."""
        await self._connection.execute(
            b"SELECT tasker.apply_judgements_v1(%s::text::jsonb)",
            (
                json.dumps(
                    [
                        {
                            "task_uuid": str(verdict.task_uuid),
                            "step_uuid": str(verdict.step_uuid),
                            "verdict": verdict.verdict,
                            "delay_seconds": verdict.delay_seconds,
                            "reason": verdict.reason,
                        }
                        for verdict in verdicts
                    ]
                ),
            ),
        )


class HeldStep:
    """A step that an operator acts on; its task and itself are locked.

    Attributes:
        task_state: None when there is no such task.
        step_state: None when the task has no such step.
    """

    def __init__(
        self,
        connection: Connection,
        task_uuid: UUID,
        step_uuid: UUID,
        *,
        task_state: str | None,
        step_state: str | None,
    ) -> None:
        self._connection = connection
        self._task_uuid = task_uuid
        self._step_uuid = step_uuid
        self.task_state = task_state
        self.step_state = step_state

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
