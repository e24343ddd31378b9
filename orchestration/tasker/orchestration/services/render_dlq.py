"""From DLQ entries to messages."""

from __future__ import annotations

import math
from typing import Final

from tasker.domain.dlq import DlqReason, ResolutionStatus, StalenessHealth
from tasker.orchestration.services.render import optional_timestamp, struct, timestamp
from tasker.persistence.reading.dlq import DlqEntry, DlqStats, QueuedDlqEntry
from tasker.persistence.reading.staleness import TaskStaleness
from tasker.v1 import dlq_pb2

REASONS: Final = {reason: dlq_pb2.DlqReason.Value(f"DLQ_REASON_{reason.name}") for reason in DlqReason}
STATUSES: Final = {
    status: dlq_pb2.DlqResolutionStatus.Value(f"DLQ_RESOLUTION_STATUS_{status.name}")
    for status in ResolutionStatus
}
_HEALTHS: Final = {
    health: dlq_pb2.StalenessHealthStatus.Value(f"STALENESS_HEALTH_STATUS_{health.name}")
    for health in StalenessHealth
}


def entry(record: DlqEntry) -> dlq_pb2.DlqEntry:
    """Return an entry."""
    return dlq_pb2.DlqEntry(
        dlq_entry_uuid=str(record.dlq_entry_uuid),
        task_uuid=str(record.task_uuid),
        original_state=record.original_state,
        dlq_reason=REASONS[record.dlq_reason],
        dlq_timestamp=timestamp(record.dlq_timestamp),
        resolution_status=STATUSES[record.resolution_status],
        resolution_timestamp=optional_timestamp(record.resolution_timestamp),
        resolution_notes=record.resolution_notes,
        resolved_by=record.resolved_by,
        task_snapshot=struct(record.task_snapshot),
        metadata=struct(record.metadata) if record.metadata is not None else None,
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
    )


def stats(row: DlqStats) -> dlq_pb2.DlqStats:
    """Return the counts and times of a reason."""
    return dlq_pb2.DlqStats(
        dlq_reason=REASONS[row.dlq_reason],
        total_entries=row.total_entries,
        pending=row.pending,
        manually_resolved=row.manually_resolved,
        permanent_failures=row.permanent_failures,
        cancelled=row.cancelled,
        oldest_entry=timestamp(row.oldest_entry),
        newest_entry=timestamp(row.newest_entry),
        avg_resolution_time_minutes=row.avg_resolution_time_minutes,
    )


def queued_entry(record: QueuedDlqEntry) -> dlq_pb2.DlqInvestigationQueueEntry:
    """Return an entry in the queue."""
    return dlq_pb2.DlqInvestigationQueueEntry(
        dlq_entry_uuid=str(record.dlq_entry_uuid),
        task_uuid=str(record.task_uuid),
        original_state=record.original_state,
        dlq_reason=REASONS[record.dlq_reason],
        dlq_timestamp=timestamp(record.dlq_timestamp),
        minutes_in_dlq=record.minutes_in_dlq,
        namespace_name=record.namespace,
        task_name=record.name,
        current_state=record.current_state,
        time_in_state_minutes=record.time_in_state_minutes,
        priority_score=record.priority_score,
    )


def staleness(task: TaskStaleness) -> dlq_pb2.StalenessMonitoringEntry:
    """Return how close a task is to being stale; minutes are those that have passed."""
    return dlq_pb2.StalenessMonitoringEntry(
        task_uuid=str(task.task_uuid),
        namespace_name=task.namespace,
        task_name=task.name,
        current_state=task.state,
        time_in_state_minutes=math.floor(task.time_in_state_minutes),
        task_age_minutes=math.floor(task.age_minutes),
        staleness_threshold_minutes=task.threshold_minutes,
        health_status=_HEALTHS[task.health],
        priority=task.priority,
    )
