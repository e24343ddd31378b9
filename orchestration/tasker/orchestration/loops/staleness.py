"""Tasks that are in a state for too long: they are put before a person and end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tasker.domain.staleness import ActionTaken, Reaction, StalenessLimits, reaction_to_staleness
from tasker.domain.templates.document import Lifecycle
from tasker.persistence.failures import is_transient
from tasker.persistence.operations.give_up import ClosedTask, close_stale_task
from tasker.persistence.operations.staleness import StaleTask, lock_detection, stale_tasks
from tasker.persistence.queries import Queries
from tasker.persistence.sessions import Session
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DetectionRules:
    """What detection may do.

    Attributes:
        limits: For tasks whose template sets none.
        interval: From one detection to the next.
        group_size: Tasks looked at in a row.
        dry_run: Say what would be done and do nothing.
        auto_move_to_dlq: Make entries, unless a template decides that itself.
        auto_transition_to_error: Move tasks to `error`, unless a template decides that itself.
        emit_events: Log an event for each task dealt with; a failure is logged in any case.
    """

    limits: StalenessLimits = field(default_factory=StalenessLimits)
    interval: timedelta = timedelta(minutes=5)
    group_size: int = 100
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

    def __init__(self, session: Session, queries: Queries, rules: DetectionRules = DetectionRules()) -> None:
        """`session` is its own: it keeps other instances from detecting while `queries` does the work."""
        self._session = session
        self._queries = queries
        self._rules = rules
        self._connected_times = 0
        self._begins_at = datetime.min.replace(tzinfo=UTC)
        self._after: StaleTask | None = None

    async def tick(self) -> float:
        """Deal with one group; go on at once until no stale task is left, then wait for the next interval."""
        interval = self._rules.interval.total_seconds()
        async with self._session.transaction() as transaction:
            lock = await lock_detection(transaction)
            if (wait := self._still_to_wait(lock.now)) > 0:
                return wait
            if not lock.locked:
                return interval
            stale = await stale_tasks(
                self._queries, self._rules.limits, self._rules.group_size, after=self._after
            )
            for task in stale:
                await self._handle(task)
        # Those that stay as they are, by their template's wish or by a failure, must not stand in the way of others.
        self._after = stale[-1] if len(stale) == self._rules.group_size else None
        return 0 if self._after is not None else interval

    def _still_to_wait(self, now: datetime) -> float:
        if self._session.connected_times != self._connected_times:
            self._connected_times = self._session.connected_times
            self._begins_at = now + self._rules.interval
        return (self._begins_at - now).total_seconds()

    async def _handle(self, task: StaleTask) -> None:
        try:
            reaction = self._reaction_to(task)
            if not reaction:
                return
            closed = await self._close(task, reaction)
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("task_staleness_detected", **_facts(task, ActionTaken.TRANSITION_FAILED))
            return
        if closed.closed and self._rules.emit_events:
            entry = (
                {"dlq_entry_uuid": str(closed.dlq_entry_uuid)} if closed.dlq_entry_uuid is not None else {}
            )
            log.warning(
                "task_staleness_detected",
                **_facts(task, reaction.action(dry_run=self._rules.dry_run)),
                **entry,
            )

    async def _close(self, task: StaleTask, reaction: Reaction) -> ClosedTask:
        if self._rules.dry_run:
            return ClosedTask(closed=True, dlq_entry_uuid=None)
        return await close_stale_task(self._queries, task, self._rules.limits, reaction)

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
