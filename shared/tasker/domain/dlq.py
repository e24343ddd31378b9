"""DLQ entries: why a task is put before a person, how near others are to that, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class DlqReason(StrEnum):
    """Why a task needs a person."""

    DEPENDENCY_CYCLE_DETECTED = "dependency_cycle_detected"
    MAX_RETRIES_EXCEEDED = "max_retries_exceeded"
    STALENESS_TIMEOUT = "staleness_timeout"
    WORKER_UNAVAILABLE = "worker_unavailable"
    MANUAL_DLQ = "manual_dlq"

    @property
    def base_score(self) -> int:
        """What a pending entry's priority starts at; each minute in the queue adds 1."""
        return BASE_SCORES[self]


#: Weight of each reason in the queue of pending entries.
BASE_SCORES: Final[Mapping[DlqReason, int]] = {
    DlqReason.DEPENDENCY_CYCLE_DETECTED: 1000,
    DlqReason.MAX_RETRIES_EXCEEDED: 500,
    DlqReason.STALENESS_TIMEOUT: 100,
    DlqReason.WORKER_UNAVAILABLE: 50,
    DlqReason.MANUAL_DLQ: 10,
}


class ResolutionStatus(StrEnum):
    """What became of an entry. All but `pending` are final; a task may get another one."""

    PENDING = "pending"
    MANUALLY_RESOLVED = "manually_resolved"
    PERMANENTLY_FAILED = "permanently_failed"
    CANCELLED = "cancelled"


class StalenessHealth(StrEnum):
    """Time in state, or age, against its limit."""

    HEALTHY = "healthy"
    WARNING = "warning"
    STALE = "stale"
