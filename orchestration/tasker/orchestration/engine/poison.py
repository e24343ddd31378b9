"""Messages that nobody could handle: looked at, and their steps given another try."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tasker.domain.queue_errors import PoisonNotFoundError, PoisonWithoutStepError
from tasker.orchestration.engine.operators import Operators
from tasker.persistence.database import Database
from tasker.persistence.reading.poison import PoisonReader, PoisonRecord


@dataclass(frozen=True, slots=True)
class PoisonPage:
    """Some of the records, newest first, and how many there are."""

    total: int
    messages: list[PoisonRecord]


class PoisonMessages:
    """Tells what was recorded, and lets steps run again that are in `error` because of it."""

    def __init__(self, database: Database, operators: Operators) -> None:
        self._database = database
        self._operators = operators

    async def page(
        self, *, task_uuid: UUID | None = None, before: int | None = None, skip: int = 0, limit: int
    ) -> PoisonPage:
        """Return a page of the records, newest first.

        Args:
            task_uuid: Only those of this task.
            before: Only those recorded before the one with this id.
            skip: Leave out so many of them.
            limit: How many at most.
        """
        async with self._database.snapshot() as snapshot:
            reader = PoisonReader(snapshot)
            return PoisonPage(
                await reader.total(task_uuid=task_uuid),
                await reader.newest(task_uuid=task_uuid, before=before, skip=skip, limit=limit),
            )

    async def requeue(self, poison_id: int, *, performed_by: str, reason: str) -> tuple[UUID, UUID]:
        """Reset the step of a message, so that it runs again; return its task and itself.

        Raises:
            InvalidArgumentError: `performed_by` or `reason` is empty or too long.
            InvalidStepTransitionError: The step is not in `error`: it goes on without this, or is over.
            PoisonNotFoundError: There is no such record.
            PoisonWithoutStepError: The message names no step.
            StepNotFoundError: The step that it names does not exist.
            TaskNotFoundError: Its task does not exist.
        """
        record = await PoisonReader(self._database).get(poison_id)
        if record is None:
            raise PoisonNotFoundError(poison_id)
        if record.task_uuid is None or record.step_uuid is None:
            raise PoisonWithoutStepError(poison_id)
        await self._operators.reset_for_retry(
            record.task_uuid, record.step_uuid, performed_by=performed_by, reason=reason
        )
        return record.task_uuid, record.step_uuid
