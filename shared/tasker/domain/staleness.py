"""When a task is stale, too long in a state or too old, and what follows from it.

The clocks of tasks are in the database, and so is the one place that holds them against these limits
(`tasker.task_staleness_v1`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tasker.domain.states import TaskState
from tasker.domain.templates.document import Lifecycle, StalenessAction

#: Below this much of its limit a task is healthy; from here on it is a warning, and stale from 100 %.
WARNING_PERCENTAGE: Final = 80
#: The limit of states that have none of their own. No task is stale by it: it only fills reports.
REPORTING_MINUTES: Final = 1440


@dataclass(frozen=True, slots=True)
class StalenessLimits:
    """Limits for tasks whose template sets none, in minutes.

    Attributes:
        waiting_for_dependencies: In that state.
        waiting_for_retry: In that state, from the moment on when the earliest retry is due.
        steps_in_process: In that state.
        task_max_lifetime: Since the task was created.
        checkpoint_stall: A task is spared while each of its running batch instances has yielded a checkpoint
            within this time.
    """

    waiting_for_dependencies: int = 60
    waiting_for_retry: int = 30
    steps_in_process: int = 30
    task_max_lifetime: int = 1440
    checkpoint_stall: int = 15

    def minutes_in(self, state: TaskState) -> int:
        """Return how long a task may be in a state; what its template's `lifecycle` says comes first."""
        own = {
            TaskState.WAITING_FOR_DEPENDENCIES: self.waiting_for_dependencies,
            TaskState.WAITING_FOR_RETRY: self.waiting_for_retry,
            TaskState.STEPS_IN_PROCESS: self.steps_in_process,
        }
        return own.get(state, REPORTING_MINUTES)

    def to_json(self) -> Mapping[str, int]:
        """Return the limits as the database takes them."""
        return {state.value: self.minutes_in(state) for state in TaskState} | {
            "task_max_lifetime": self.task_max_lifetime,
            "checkpoint_stall": self.checkpoint_stall,
            "warning_percentage": WARNING_PERCENTAGE,
        }


class ActionTaken(StrEnum):
    """What detection did about a stale task, as its event says."""

    WOULD_TRANSITION_TO_DLQ_AND_ERROR = "would_transition_to_dlq_and_error"
    WOULD_MOVE_TO_DLQ_ONLY = "would_move_to_dlq_only"
    WOULD_TRANSITION_TO_ERROR_ONLY = "would_transition_to_error_only"
    TRANSITIONED_TO_DLQ_AND_ERROR = "transitioned_to_dlq_and_error"
    MOVED_TO_DLQ_ONLY = "moved_to_dlq_only"
    TRANSITIONED_TO_ERROR_ONLY = "transitioned_to_error_only"
    TRANSITION_FAILED = "transition_failed"


@dataclass(frozen=True, slots=True)
class Reaction:
    """What to do about a stale task.

    Attributes:
        adds_entry: Make a DLQ entry.
        fails: Move the task to `error`.
    """

    adds_entry: bool
    fails: bool

    def __bool__(self) -> bool:
        return self.adds_entry or self.fails

    def action(self, *, dry_run: bool) -> ActionTaken:
        """Return what carrying it out is called; for a dry run, what it would be."""
        if self.adds_entry and self.fails:
            both = (ActionTaken.WOULD_TRANSITION_TO_DLQ_AND_ERROR, ActionTaken.TRANSITIONED_TO_DLQ_AND_ERROR)
            return both[not dry_run]
        if self.adds_entry:
            return ActionTaken.WOULD_MOVE_TO_DLQ_ONLY if dry_run else ActionTaken.MOVED_TO_DLQ_ONLY
        return (
            ActionTaken.WOULD_TRANSITION_TO_ERROR_ONLY if dry_run else ActionTaken.TRANSITIONED_TO_ERROR_ONLY
        )


def reaction_to_staleness(
    lifecycle: Lifecycle | None, *, auto_move_to_dlq: bool, auto_transition_to_error: bool
) -> Reaction:
    """Return what to do about a stale task.

    `auto_dlq_on_timeout` and `auto_fail_on_timeout` of its template decide; where they are null, its
    `staleness_action` does, as far as the settings allow.

    Args:
        lifecycle: What its template says; None when it says nothing.
        auto_move_to_dlq: Whether entries are made unless a template asks for them itself.
        auto_transition_to_error: The same for moving tasks to `error`.
    """
    said = lifecycle or Lifecycle()
    adds_entry, fails = said.auto_dlq_on_timeout, said.auto_fail_on_timeout
    if adds_entry is None:
        adds_entry = auto_move_to_dlq and said.staleness_action is StalenessAction.DLQ
    if fails is None:
        fails = auto_transition_to_error and said.staleness_action is not StalenessAction.NONE
    return Reaction(adds_entry, fails)
