"""How many steps of a task are in which condition, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ExecutionStatus(StrEnum):
    """What the steps of a task are doing."""

    BLOCKED_BY_FAILURES = "blocked_by_failures"
    HAS_READY_STEPS = "has_ready_steps"
    PROCESSING = "processing"
    ALL_COMPLETE = "all_complete"
    WAITING_FOR_DEPENDENCIES = "waiting_for_dependencies"

    @property
    def recommended_action(self) -> str:
        """What to do about it."""
        return _ACTIONS[self]


_ACTIONS = {
    ExecutionStatus.BLOCKED_BY_FAILURES: "handle_failures",
    ExecutionStatus.HAS_READY_STEPS: "execute_ready_steps",
    ExecutionStatus.PROCESSING: "wait_for_completion",
    ExecutionStatus.ALL_COMPLETE: "finalize_task",
    ExecutionStatus.WAITING_FOR_DEPENDENCIES: "wait_for_dependencies",
}


class Health(StrEnum):
    """Whether a task needs somebody."""

    HEALTHY = "healthy"
    RECOVERING = "recovering"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class StepCounts:
    """The steps of a task by what they are doing.

    Attributes:
        total: All of them.
        completed: Complete or resolved by an operator.
        failed: In `error`.
        in_flight: From `enqueued` to the notification states.
        waiting_for_retry: In backoff.
        ready: Could be enqueued now.
    """

    total: int
    completed: int
    failed: int
    in_flight: int
    waiting_for_retry: int
    ready: int

    @property
    def execution_status(self) -> ExecutionStatus:
        """The first of these that holds, from the worst to the best."""
        if self.failed:
            return ExecutionStatus.BLOCKED_BY_FAILURES
        if self.ready:
            return ExecutionStatus.HAS_READY_STEPS
        if self.in_flight:
            return ExecutionStatus.PROCESSING
        if self.completed == self.total > 0:
            return ExecutionStatus.ALL_COMPLETE
        return ExecutionStatus.WAITING_FOR_DEPENDENCIES

    @property
    def completion_percentage(self) -> float:
        """Completed steps of all, in percent with two decimals; 0 without steps."""
        return round(100 * self.completed / self.total, 2) if self.total else 0.0

    @property
    def health(self) -> Health:
        """Blocked by any error, else recovering while anything waits for a retry."""
        if self.failed:
            return Health.BLOCKED
        return Health.RECOVERING if self.waiting_for_retry else Health.HEALTHY
