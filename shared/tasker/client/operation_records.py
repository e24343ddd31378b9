"""What calls about a deployment return."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tasker.client.dlq_records import DlqEntry
from tasker.client.records import Task
from tasker.domain.states import StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespacePause:
    """A namespace whose steps nobody claims.

    Attributes:
        namespace: Which one.
        paused_at: Since when.
        requested_by: Who wanted it.
        reason: Why.
    """

    namespace: str
    paused_at: datetime
    requested_by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """A queue and what waits in it; counts are exact up to 10,000.

    Attributes:
        name: The queue.
        namespace: Whose steps it carries; None for the queues of orchestration, as is the band.
        priority_band: `high`, `normal` or `low`.
        visible: Messages that can be taken now.
        delayed: Messages that were put back for later.
        oldest_age_seconds: Age of the oldest message; None when there is none.
        workers: Live workers that serve the namespace.
        pause: Present while the namespace is paused.
    """

    name: str
    namespace: str | None
    priority_band: str | None
    visible: int
    delayed: int
    oldest_age_seconds: float | None
    workers: int
    pause: NamespacePause | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriedTask:
    """A task whose failed steps were reset.

    Attributes:
        task: The task after that, without its context.
        reset_steps: The names of those steps.
    """

    task: Task
    reset_steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeuedTask:
    """A task whose lost messages were sent again.

    Attributes:
        task: The task, without its context.
        messages: How many were sent.
    """

    task: Task
    messages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SentToDlq:
    """The pending entry of a task that was put before a person.

    Attributes:
        entry: The entry.
        created: Whether it was made now, rather than found.
    """

    entry: DlqEntry
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonMessage:
    """A message that nobody could handle.

    Attributes:
        poison_id: Names the record.
        queue: Where it was.
        msg_id: Its number there.
        message: What it said.
        error: What went wrong.
        recorded_at: When.
        task_uuid: The task it named, if it named one.
        step_uuid: The step likewise.
        step_state: Where that step is now, if there is one. In `error` it waits for somebody.
    """

    poison_id: int
    queue: str
    msg_id: int
    message: Any
    error: str
    recorded_at: datetime
    task_uuid: UUID | None
    step_uuid: UUID | None
    step_state: StepState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeuedPoison:
    """What runs again after a message that nobody could handle.

    Attributes:
        task: The task, without its context.
        step_uuid: The step that was reset.
    """

    task: Task
    step_uuid: UUID
