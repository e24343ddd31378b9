"""Reading what workers submitted for a step, and what operators did to it."""

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
_STEP: Final = statement("audited_step")
_INTERVENTIONS: Final = statement("step_interventions")


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One result that a worker submitted.

    Attributes:
        sort_key: That of the transition by which it came.
        attempt: Which attempt it was; a reset starts anew.
        from_state, to_state: Of that transition.
        envelope: The result as stored.
    """

    sort_key: int
    attempt: int
    from_state: StepState
    to_state: StepState
    recorded_at: datetime
    worker_uuid: UUID | None
    success: bool
    execution_time_ms: int | None
    envelope: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditedStep:
    """A step and how many results workers submitted for it; the correlation id is its task's."""

    step_name: str
    correlation_id: UUID
    total: int


@dataclass(frozen=True, slots=True)
class StepIntervention:
    """What an operator did to a step.

    Attributes:
        action: The event of the state machine.
        performed_by: Who did it; None where nobody said so.
        reason: Why; None where nobody said so.
        from_state, to_state: Of the step.
    """

    intervened_at: datetime
    action: str
    performed_by: str | None
    reason: str | None
    from_state: StepState
    to_state: StepState


@dataclass(frozen=True, slots=True)
class Audit:
    """What workers submitted for a step, a page of it, and what operators did to it, as of the same moment."""

    step: AuditedStep
    page: FoundPage[AuditRecord]
    interventions: list[StepIntervention]


class AuditReader:
    """Answers what became of the attempts at a step."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(
        self,
        task_uuid: UUID,
        step_uuid: UUID,
        *,
        before: int | None = None,
        skip: int = 0,
        limit: int | None = None,
    ) -> Audit:
        """Return the results that workers submitted for a step, newest first, and what operators did to it.

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
            step = await snapshot.fetch_one(AuditedStep, _STEP, params)
            if step is None:
                raise await no_such_step(snapshot, task_uuid, step_uuid)
            found = await snapshot.fetch_all(AuditRecord, _AUDIT, params)
            interventions = await snapshot.fetch_all(StepIntervention, _INTERVENTIONS, params)
        records = list(itertools.takewhile(lambda record: record.envelope is not None, found[:limit]))
        page = FoundPage(step.total, records, more=len(found) > len(records))
        return Audit(step, page, interventions)
