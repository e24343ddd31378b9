"""Creating tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tasker.domain.storable import json_array
from tasker.persistence.queries import Queries

_CREATE: Final = """
    SELECT task_uuid, existing_uuid, created_at, updated_at
    FROM tasker.create_tasks_v1(%s, %s::text::jsonb, %s::text::jsonb)
"""


@dataclass(frozen=True, slots=True)
class TaskToCreate:
    """A validated task on its way into the database.

    Attributes:
        identity: SHA-256 of what makes it unique; None when nothing does.
        context: JSON text.
        step_uuids: One for every planned position of the template.
        ttl: How long the task may take; None for as long as it likes.
    """

    task_uuid: UUID
    namespace_id: int
    named_task_uuid: UUID
    template_digest: bytes
    identity: bytes | None
    priority: int
    correlation_id: UUID
    parent_correlation_id: UUID | None
    initiator: str
    source_system: str
    reason: str
    tags: tuple[str, ...]
    context: str
    step_uuids: tuple[UUID, ...]
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CreatedTask:
    """What became of it: created and started at an instant, or refused for the sake of an existing task.

    If it is neither, its version was taken out of use since it was read.
    """

    task_uuid: UUID
    existing_uuid: UUID | None
    created_at: datetime | None
    updated_at: datetime | None

    @property
    def is_of_no_use(self) -> bool:
        """Whether it was refused since its version is not in use any more."""
        return self.existing_uuid is None and self.created_at is None


async def create_tasks(
    queries: Queries, environment: str, tasks: Sequence[TaskToCreate]
) -> dict[UUID, CreatedTask]:
    """Create tasks in one transaction; return what became of each.

    Args:
        queries: Where.
        environment: Whose plans of the templates say how the steps are run, now and later: the tasks keep it.
        tasks: What to create; where their identities conflict with one that exists, they are refused one by one.
    """
    created = await queries.fetch_all(
        CreatedTask,
        _CREATE,
        (
            environment,
            json.dumps([_task_object(task, place) for place, task in enumerate(tasks)]),
            json_array(task.context for task in tasks),
        ),
    )
    return {task.task_uuid: task for task in created}


def _task_object(task: TaskToCreate, place: int) -> dict[str, Any]:
    """Return the object that create_tasks_v1 reads; its context, which is JSON text already, goes beside it."""
    return {
        "task_uuid": str(task.task_uuid),
        "namespace_id": task.namespace_id,
        "named_task_uuid": str(task.named_task_uuid),
        "template_digest": task.template_digest.hex(),
        "identity": task.identity.hex() if task.identity else None,
        "priority": task.priority,
        "correlation_id": str(task.correlation_id),
        "parent_correlation_id": str(task.parent_correlation_id) if task.parent_correlation_id else None,
        "initiator": task.initiator,
        "source_system": task.source_system,
        "reason": task.reason,
        "tags": task.tags,
        "ttl": f"{task.ttl.total_seconds()} seconds" if task.ttl else None,
        "step_uuids": [str(step) for step in task.step_uuids],
        "context": place,
    }
