"""Reading all that a page about one task shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tasker.domain.dlq import DlqReason, ResolutionStatus
from tasker.domain.errors import TaskNotFoundError
from tasker.persistence.database import Database
from tasker.persistence.queries import statement
from tasker.persistence.reading.tasks import StepRecord, TaskRecord, read_task_with_steps

_NEWEST_ENTRY: Final = statement("summary_dlq_entry")
_TEMPLATE: Final = statement("summary_template")


@dataclass(frozen=True, slots=True)
class NewestDlqEntry:
    """What a summary tells of the newest DLQ entry of a task."""

    dlq_reason: DlqReason
    resolution_status: ResolutionStatus


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task and what belongs to it, as of the same moment.

    Attributes:
        steps: Oldest first, with no more of their results than why they failed.
        template: The document of the revision that the task was created with.
        dlq_entry: The newest one; None if there never was one.
    """

    task: TaskRecord
    steps: list[StepRecord]
    template: dict[str, Any]
    dlq_entry: NewestDlqEntry | None


class SummaryReader:
    """Sums tasks up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def summary(self, task_uuid: UUID) -> TaskSummary:
        """Return what there is to say about a task.

        Raises:
            TaskNotFoundError: There is no such task.
        """
        params = {"task": task_uuid}
        async with self._database.snapshot() as snapshot:
            found = await read_task_with_steps(snapshot, task_uuid, in_brief=True)
            if found is None:
                raise TaskNotFoundError(task_uuid)
            return TaskSummary(
                found.task,
                found.steps,
                await snapshot.fetch_value(_TEMPLATE, params),
                await snapshot.fetch_one(NewestDlqEntry, _NEWEST_ENTRY, params),
            )
