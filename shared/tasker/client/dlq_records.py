"""What calls about tasks that need a person return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tasker.domain.dlq import DlqReason, ResolutionStatus, StalenessHealth
from tasker.domain.states import TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class DlqEntry:
    """A record that puts a task before a person, or did.

    Attributes:
        dlq_entry_uuid: The entry.
        task_uuid: Its task.
        original_state: The task's state when the entry was made.
        dlq_reason: Why it was made.
        dlq_timestamp: When.
        resolution_status: What became of it; all but `pending` is final.
        resolution_timestamp: When it left `pending`.
        resolution_notes: What was found.
        resolved_by: Who found it.
        task_snapshot: The task as it was when the entry was made, with its steps and its last transitions.
        metadata: How the entry came about, unless an update replaced it.
        created_at: When it was made.
        updated_at: When it last changed; `update` takes it as `expected_updated_at`.
    """

    dlq_entry_uuid: UUID
    task_uuid: UUID
    original_state: TaskState
    dlq_reason: DlqReason
    dlq_timestamp: datetime
    resolution_status: ResolutionStatus
    resolution_timestamp: datetime | None
    resolution_notes: str | None
    resolved_by: str | None
    task_snapshot: Mapping[str, Any]
    metadata: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DlqStats:
    """The entries of one reason.

    Attributes:
        dlq_reason: The reason.
        total_entries: How many there are.
        pending, manually_resolved, permanent_failures, cancelled: How many of each status.
        oldest_entry: When the first one was made.
        newest_entry: When the last one was.
        avg_resolution_time_minutes: How long those took that left `pending`; None while none did.
    """

    dlq_reason: DlqReason
    total_entries: int
    pending: int
    manually_resolved: int
    permanent_failures: int
    cancelled: int
    oldest_entry: datetime | None
    newest_entry: datetime | None
    avg_resolution_time_minutes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedDlqEntry:
    """A pending entry and how urgent it is.

    Attributes:
        dlq_entry_uuid: The entry.
        task_uuid: Its task.
        original_state: The task's state when the entry was made.
        dlq_reason: Why it was made.
        dlq_timestamp: When.
        minutes_in_dlq: How long that is ago.
        namespace, name: Of the task's template; None if the task was deleted.
        current_state: The task's state now.
        time_in_state_minutes: For how long it has been there.
        priority_score: The weight of the reason plus `minutes_in_dlq`; higher is more urgent.
    """

    dlq_entry_uuid: UUID
    task_uuid: UUID
    original_state: TaskState
    dlq_reason: DlqReason
    dlq_timestamp: datetime
    minutes_in_dlq: float
    namespace: str | None
    name: str | None
    current_state: TaskState | None
    time_in_state_minutes: int | None
    priority_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStaleness:
    """An open task and how close it is to being stale.

    Attributes:
        task_uuid: The task.
        namespace, name: Of its template.
        state: Where it stands.
        time_in_state_minutes: For how long.
        age_minutes: Since it was created.
        threshold_minutes: Minutes in this state at which it is stale.
        health: Below 80 % of its limit, above, or past it.
        priority: From -100 to 100.
    """

    task_uuid: UUID
    namespace: str | None
    name: str | None
    state: TaskState
    time_in_state_minutes: int
    age_minutes: int
    threshold_minutes: int
    health: StalenessHealth
    priority: int
