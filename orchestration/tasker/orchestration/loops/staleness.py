"""Tasks that stand still for too long: they are put before a person and end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from tasker.domain.staleness import ActionTaken, Reaction, StalenessLimits, reaction_to_staleness
from tasker.domain.templates.document import Lifecycle
from tasker.persistence.failures import is_transient
from tasker.persistence.staleness import StaleTask, StandingTasks, Turn

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DetectionRules:
    """What detection may do.

    Attributes:
        limits: For tasks whose template sets none.
        interval: From one detection to the next.
        batch_size: Tasks looked at in a row.
        dry_run: Say what would be done and do nothing.
        auto_move_to_dlq: Make entries, unless a template decides that itself.
        auto_transition_to_error: Move tasks to `error`, unless a template decides that itself.
        emit_events: Log an event for each task dealt with; a failure is logged in any case.
    """

    limits: StalenessLimits = field(default_factory=StalenessLimits)
    interval: timedelta = timedelta(minutes=5)
    batch_size: int = 100
    dry_run: bool = False
    auto_move_to_dlq: bool = True
    auto_transition_to_error: bool = True
    emit_events: bool = True


class StalenessDetector:
    """Deals with stale tasks one by one, longest in their state first; one instance at a time.

    It waits one interval after each (re)connect: while it could not reach the database nobody could, and what is due
    since then shall get its chance first.
    """

    name = "staleness"

    def __init__(self, tasks: StandingTasks, rules: DetectionRules = DetectionRules()) -> None:
        self._tasks = tasks
        self._rules = rules
        self._connected_times = 0
        self._begins_at = datetime.min.replace(tzinfo=UTC)
        self._after: StaleTask | None = None

    async def tick(self) -> float:
        """Deal with one batch; go on at once until no stale task is left, then wait for the next interval."""
        interval = self._rules.interval.total_seconds()
        async with self._tasks.turn() as turn:
            if (wait := self._still_to_wait(turn)) > 0:
                return wait
            if not turn.granted:
                return interval
            stale = await self._tasks.stale(self._rules.limits, self._rules.batch_size, after=self._after)
            for task in stale:
                await self._handle(task)
        # Those that stay as they are, by their template's wish or by a failure, must not stand in the way of others.
        self._after = stale[-1] if len(stale) == self._rules.batch_size else None
        return 0 if self._after is not None else interval

    def _still_to_wait(self, turn: Turn) -> float:
        if turn.connected_times != self._connected_times:
            self._connected_times = turn.connected_times
            self._begins_at = turn.now + self._rules.interval
        return (self._begins_at - turn.now).total_seconds()

    async def _handle(self, task: StaleTask) -> None:
        try:
            reaction = self._reaction_to(task)
            if not reaction:
                return
            dry_run = self._rules.dry_run
            dealt_with, dlq_entry_uuid = True, None
            if not dry_run:
                dealt_with, dlq_entry_uuid = await self._tasks.close_stale(task, self._rules.limits, reaction)
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("task_staleness_detected", **_facts(task, ActionTaken.TRANSITION_FAILED))
            return
        if dealt_with and self._rules.emit_events:
            entry = {"dlq_entry_uuid": str(dlq_entry_uuid)} if dlq_entry_uuid is not None else {}
            log.warning("task_staleness_detected", **_facts(task, reaction.action(dry_run=dry_run)), **entry)

    def _reaction_to(self, task: StaleTask) -> Reaction:
        return reaction_to_staleness(
            None if task.lifecycle is None else Lifecycle.model_validate(task.lifecycle),
            auto_move_to_dlq=self._rules.auto_move_to_dlq,
            auto_transition_to_error=self._rules.auto_transition_to_error,
        )


def _facts(task: StaleTask, action: ActionTaken) -> dict[str, str | int]:
    return {
        "task_uuid": str(task.task_uuid),
        "namespace": task.namespace,
        "task_name": task.name,
        "state": task.state,
        "time_in_state_minutes": int(task.time_in_state_minutes),
        "threshold_minutes": task.threshold_minutes,
        "action_taken": action.value,
    }
