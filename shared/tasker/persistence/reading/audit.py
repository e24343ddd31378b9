"""Reading what workers submitted for a step."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.states import StepState
from tasker.persistence.database import Database
from tasker.persistence.queries import statement
from tasker.persistence.reading.pages import PAGE_VALUE_BYTES, FoundPage
from tasker.persistence.reading.tasks import no_such_step

_AUDIT: Final = statement("step_audit")
_COUNT: Final = statement("step_audit_count")
_STEP_EXISTS: Final = (
    "SELECT 1 FROM tasker.workflow_steps s WHERE s.task_uuid = %(task)s AND s.step_uuid = %(step)s LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One result that a worker submitted.

    Attributes:
        sort_key: That of the transition by which it came.
        attempt: Which attempt it was; a reset starts anew.
        from_state, to_state: Of that transition.
        envelope: The result as stored.
    """

    task_uuid: UUID
    step_uuid: UUID
    step_name: str
    sort_key: int
    attempt: int
    from_state: StepState
    to_state: StepState
    recorded_at: datetime
    worker_uuid: UUID | None
    correlation_id: UUID
    success: bool
    execution_time_ms: int | None
    envelope: dict[str, Any]


class AuditReader:
    """Answers what became of the attempts at a step."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        task_uuid: UUID,
        step_uuid: UUID,
        *,
        before: int | None = None,
        skip: int = 0,
        limit: int | None = None,
    ) -> FoundPage[AuditRecord]:
        """Return the results that workers submitted for a step, newest first.

        A page ends early rather than grow beyond `PAGE_VALUE_BYTES`; its first record comes always.

        Args:
            task_uuid: The step's task.
            step_uuid: The step.
            before: Only those before this sort_key.
            skip: Leave out so many of them.
            limit: Return no more than this; None for all.

        Raises:
            InvalidArgumentError: The step belongs to another task.
            StepNotFoundError: The task has no such step.
            TaskNotFoundError: There is no such task.
        """
        params = {
            "task": task_uuid,
            "step": step_uuid,
            "before": before,
            "skip": skip,
            "limit": None if limit is None else limit + 1,
            "bytes": PAGE_VALUE_BYTES,
        }
        async with self._database.snapshot() as snapshot:
            if await snapshot.fetch_value(_STEP_EXISTS, params) is None:
                raise await no_such_step(snapshot, task_uuid, step_uuid)
            total = await snapshot.fetch_value(_COUNT, params)
            found = await snapshot.fetch_all(AuditRecord, _AUDIT, params)
        records = list(itertools.takewhile(lambda record: record.envelope is not None, found[:limit]))
        return FoundPage(total, records, more=len(found) > len(records))
