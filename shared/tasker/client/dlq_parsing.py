"""From messages about tasks that need a person to records."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from tasker.client.dlq_records import DlqEntry, DlqStats, QueuedDlqEntry, TaskStaleness
from tasker.client.fields import instant, optional, optional_instant, plain
from tasker.domain.dlq import DlqReason, ResolutionStatus, StalenessHealth
from tasker.domain.states import TaskState
from tasker.v1 import dlq_pb2

REASONS: Final = {reason: dlq_pb2.DlqReason.Value(f"DLQ_REASON_{reason.name}") for reason in DlqReason}
STATUSES: Final = {
    status: dlq_pb2.DlqResolutionStatus.Value(f"DLQ_RESOLUTION_STATUS_{status.name}")
    for status in ResolutionStatus
}
_REASON_OF: Final = {number: reason for reason, number in REASONS.items()}
_STATUS_OF: Final = {number: status for status, number in STATUSES.items()}
_HEALTH_OF: Final = {
    dlq_pb2.StalenessHealthStatus.Value(f"STALENESS_HEALTH_STATUS_{health.name}"): health
    for health in StalenessHealth
}


def entry(message: dlq_pb2.DlqEntry) -> DlqEntry:
    """Return an entry."""
    return DlqEntry(
        dlq_entry_uuid=UUID(message.dlq_entry_uuid),
        task_uuid=UUID(message.task_uuid),
        original_state=TaskState(message.original_state),
        dlq_reason=_REASON_OF[message.dlq_reason],
        dlq_timestamp=instant(message.dlq_timestamp),
        resolution_status=_STATUS_OF[message.resolution_status],
        resolution_timestamp=optional_instant(message, "resolution_timestamp"),
        resolution_notes=optional(message, "resolution_notes"),
        resolved_by=optional(message, "resolved_by"),
        task_snapshot=plain(message.task_snapshot),
        metadata=plain(message.metadata) if message.HasField("metadata") else None,
        created_at=instant(message.created_at),
        updated_at=instant(message.updated_at),
    )


def stats(message: dlq_pb2.DlqStats) -> DlqStats:
    """Return the counts and times of a reason."""
    return DlqStats(
        dlq_reason=_REASON_OF[message.dlq_reason],
        total_entries=message.total_entries,
        pending=message.pending,
        manually_resolved=message.manually_resolved,
        permanent_failures=message.permanent_failures,
        cancelled=message.cancelled,
        oldest_entry=optional_instant(message, "oldest_entry"),
        newest_entry=optional_instant(message, "newest_entry"),
        avg_resolution_time_minutes=optional(message, "avg_resolution_time_minutes"),
    )


def queued_entry(message: dlq_pb2.DlqInvestigationQueueEntry) -> QueuedDlqEntry:
    """Return an entry in the queue."""
    return QueuedDlqEntry(
        dlq_entry_uuid=UUID(message.dlq_entry_uuid),
        task_uuid=UUID(message.task_uuid),
        original_state=TaskState(message.original_state),
        dlq_reason=_REASON_OF[message.dlq_reason],
        dlq_timestamp=instant(message.dlq_timestamp),
        minutes_in_dlq=message.minutes_in_dlq,
        namespace=optional(message, "namespace_name"),
        name=optional(message, "task_name"),
        current_state=TaskState(message.current_state) if message.HasField("current_state") else None,
        time_in_state_minutes=optional(message, "time_in_state_minutes"),
        priority_score=message.priority_score,
    )


def staleness(message: dlq_pb2.StalenessMonitoringEntry) -> TaskStaleness:
    """Return how close a task is to being stale."""
    return TaskStaleness(
        task_uuid=UUID(message.task_uuid),
        namespace=optional(message, "namespace_name"),
        name=optional(message, "task_name"),
        state=TaskState(message.current_state),
        time_in_state_minutes=message.time_in_state_minutes,
        age_minutes=message.task_age_minutes,
        threshold_minutes=message.staleness_threshold_minutes,
        health=_HEALTH_OF[message.health_status],
        priority=message.priority,
    )
