"""What operators do by hand: cancel, resume, retry and requeue tasks, and reset, resolve or complete steps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tasker.domain.errors import (
    GuardFailedError,
    InvalidArgumentError,
    InvalidStepTransitionError,
    InvalidTaskTransitionError,
    TaskNotFoundError,
)
from tasker.domain.results import manual_completion
from tasker.domain.states import (
    STEP_TRANSITIONS,
    TASK_TRANSITIONS,
    StepEvent,
    StepState,
    TaskEvent,
    TaskState,
    next_state,
    possible_events,
)
from tasker.domain.templates.document import StepType
from tasker.orchestration.engine.arguments import check_texts, storable
from tasker.orchestration.engine.expansion import Expander, ExpandingStep
from tasker.persistence.failures import without_conflict
from tasker.persistence.operations.cancel import cancel_open_tasks
from tasker.persistence.operations.operate import (
    LockedStep,
    act_on_step,
    lock_step,
    lock_tasks,
    resume_by_hand,
    retry_task,
)
from tasker.persistence.operations.reconcile import requeue_task
from tasker.persistence.queries import Transaction
from tasker.persistence.reading.tasks import no_such_step
from tasker.persistence.sessions import Sessions
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

#: The longest texts that are kept with a transition.
_LENGTHS: Final[Mapping[str, int]] = {"performed_by": 255, "requested_by": 255, "reason": 500}

#: What is said of actions that come too late, and what is done to a step by each action, in words for people.
_OVER: Final = "and nothing can be done to it any more"
_DONE: Final[Mapping[StepEvent, str]] = {
    StepEvent.RESET_FOR_RETRY: "reset",
    StepEvent.RESOLVE_MANUALLY: "resolved",
    StepEvent.COMPLETE_MANUALLY: "completed",
}


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What cancelling a task came to.

    Attributes:
        success: Whether the task was cancelled by this call.
        message: Why not, for people.
    """

    success: bool
    message: str | None = None


class Operators:
    """Acts on tasks and steps in one transaction each; the task goes on in the same one."""

    def __init__(
        self, sessions: Sessions, expander: Expander, transaction: Transaction | None = None
    ) -> None:
        """With a transaction steps are acted on in that one, whose conflicts its owner handles."""
        self._sessions = sessions
        self._expander = expander
        self._transaction = transaction

    @asynccontextmanager
    async def together(self, task_uuids: Sequence[UUID]) -> AsyncIterator[Operators]:
        """Lend operators whose actions on steps of some tasks share a transaction; the caller handles conflicts."""
        async with self._sessions.transaction() as transaction:
            await lock_tasks(transaction, task_uuids)
            yield Operators(self._sessions, self._expander, transaction)

    async def cancel(
        self, task_uuid: UUID, *, reason: str | None = None, requested_by: str | None = None
    ) -> Cancellation:
        """Cancel a task and all its steps that are not over. One that is over stays as it is.

        Handlers that run are not waited for; their results come too late.

        Raises:
            InvalidArgumentError: A text is too long.
            TaskNotFoundError: There is no such task.
        """
        cancelled = await self.cancel_together([task_uuid], reason=reason, requested_by=requested_by)
        if task_uuid not in cancelled:
            raise TaskNotFoundError(task_uuid)
        return cancelled[task_uuid]

    async def cancel_together(
        self,
        task_uuids: Sequence[UUID],
        *,
        reason: str | None = None,
        requested_by: str | None = None,
        all_or_nothing: bool = False,
    ) -> dict[UUID, Cancellation]:
        """Cancel tasks as `cancel` does, in one transaction; return what it came to for each that exists.

        Args:
            task_uuids: The tasks.
            reason: Why.
            requested_by: Who asks.
            all_or_nothing: Whether none is cancelled if one of them does not exist.

        Raises:
            InvalidArgumentError: A text is too long.
        """
        check_texts(_LENGTHS, {"reason": reason, "requested_by": requested_by})
        metadata = {"event": "cancel", "reason": reason, "requested_by": requested_by}
        tasks = await cancel_open_tasks(self._sessions, task_uuids, metadata, all_or_nothing=all_or_nothing)
        return {
            task_uuid: Cancellation(
                task.cancelled, None if task.cancelled else f"the task is already over: {task.from_state}"
            )
            for task_uuid, task in tasks.items()
        }

    async def resume(self, task_uuid: UUID, *, performed_by: str, reason: str) -> None:
        """Let a task go on that ended in `error` although none of its steps did: because it was stuck.

        Its steps go on where they were: what is queued is queued again, what nobody runs any more is retried. Where a
        step has failed, act on that one instead: its task goes on by itself.

        Raises:
            GuardFailedError: Some of its steps are in `error`; nothing else blocks it.
            InvalidArgumentError: `performed_by` or `reason` is empty or too long.
            InvalidTaskTransitionError: It is not in `error`.
            TaskNotFoundError: There is no such task.
        """
        check_performer(performed_by, reason)
        metadata = {"event": TaskEvent.RESET, "performed_by": performed_by, "reason": reason}
        task = await resume_by_hand(self._sessions, task_uuid, metadata)
        if task is None:
            raise TaskNotFoundError(task_uuid)
        if not task.resumed:
            _check_resumable(TaskState(task.from_state))
            raise GuardFailedError(
                "task",
                task.from_state,
                TaskEvent.RESET,
                f"{task.failed} of its steps failed; reset, resolve or complete those",
                done="resumed",
            )

    async def retry(self, task_uuid: UUID, *, performed_by: str, reason: str) -> list[str]:
        """Reset all failed steps of a task at once, as `reset_for_retry` does with one; return their names.

        Raises:
            GuardFailedError: None of its steps failed.
            InvalidArgumentError: `performed_by` or `reason` is empty or too long.
            InvalidTaskTransitionError: It is over for good.
            TaskNotFoundError: There is no such task.
        """
        check_performer(performed_by, reason)
        metadata = {"event": StepEvent.RESET_FOR_RETRY, "performed_by": performed_by, "reason": reason}
        task = await retry_task(self._sessions, task_uuid, metadata)
        if task is None:
            raise TaskNotFoundError(task_uuid)
        if task.reset_steps is not None:
            return task.reset_steps
        state = TaskState(task.from_state)
        if state.is_terminal and state is not TaskState.ERROR:
            raise InvalidTaskTransitionError(
                "task", state, "retry", said=f"the task cannot be retried: it is {state}, {_OVER}"
            )
        remedy = "; resume it instead" if state is TaskState.ERROR else ""
        raise GuardFailedError("task", state, "retry", f"none of its steps failed{remedy}", done="retried")

    async def requeue(self, task_uuid: UUID, *, performed_by: str, reason: str) -> int:
        """Send again what messages of a task were lost; return how many. Those that are there are left alone.

        The reconciler does so by itself a minute after the last change of a task.

        Raises:
            InvalidArgumentError: `performed_by` or `reason` is empty or too long.
            InvalidTaskTransitionError: The task is over, so that nothing waits for a message.
            TaskNotFoundError: There is no such task.
        """
        check_performer(performed_by, reason)
        task = await requeue_task(self._sessions, task_uuid)
        if task is None:
            raise TaskNotFoundError(task_uuid)
        if task.messages is None:
            raise InvalidTaskTransitionError(
                "task",
                task.from_state,
                "requeue",
                said=f"the task's messages cannot be sent again: it is {task.from_state}, and waits for none",
            )
        log.info(
            "task_requeued",
            task_uuid=str(task_uuid),
            messages=task.messages,
            performed_by=performed_by,
            reason=reason,
        )
        return task.messages

    async def reset_for_retry(
        self, task_uuid: UUID, step_uuid: UUID, *, performed_by: str, reason: str
    ) -> None:
        """Give a failed step all its attempts again; it runs as soon as its parents allow.

        Its checkpoint stays, its results and backoff go.

        Raises:
            InvalidArgumentError: `performed_by` or `reason` is empty or too long; the step belongs to another task.
            InvalidStepTransitionError: The step is not in `error`, or its task is over for good.
            StepNotFoundError: The task has no such step.
            TaskNotFoundError: There is no such task.
        """
        check_performer(performed_by, reason)
        await self._act(
            task_uuid, step_uuid, StepEvent.RESET_FOR_RETRY, performed_by=performed_by, reason=reason
        )

    async def resolve_manually(
        self, task_uuid: UUID, step_uuid: UUID, *, performed_by: str, reason: str
    ) -> None:
        """Declare a step done without a result: its children may run.

        Raises:
            InvalidArgumentError: `performed_by` or `reason` is empty or too long; the step belongs to another task.
            InvalidStepTransitionError: The step or its task is over for good.
            StepNotFoundError: The task has no such step.
            TaskNotFoundError: There is no such task.
        """
        check_performer(performed_by, reason)
        await self._act(
            task_uuid, step_uuid, StepEvent.RESOLVE_MANUALLY, performed_by=performed_by, reason=reason
        )

    async def complete_manually(
        self,
        task_uuid: UUID,
        step_uuid: UUID,
        *,
        result: Any,
        metadata: Any = None,
        performed_by: str,
        reason: str,
    ) -> None:
        """Give a step a result in place of its handler; its children see it and may run.

        Args:
            task_uuid: The step's task.
            step_uuid: The step.
            result: The JSON value that children see.
            metadata: Facts to keep with the result.
            performed_by: Who acts.
            reason: Why.

        Raises:
            InvalidArgumentError: The result cannot be stored, or is no outcome of the decision or batchable step;
                `performed_by` or `reason` is empty or too long; the step belongs to another task.
            InvalidStepTransitionError: The step or its task is over for good.
            StepNotFoundError: The task has no such step.
            TaskNotFoundError: There is no such task.
        """
        check_performer(performed_by, reason)
        completion = manual_completion(
            str(step_uuid), result, metadata, completed_by=performed_by, reason=reason
        )
        value = storable("result", completion.result)
        kept = storable("metadata", completion.metadata.to_json())
        await self._act(
            task_uuid,
            step_uuid,
            StepEvent.COMPLETE_MANUALLY,
            performed_by=performed_by,
            reason=reason,
            returned=result,
            result=value,
            result_metadata=kept,
        )

    async def _act(
        self,
        task_uuid: UUID,
        step_uuid: UUID,
        event: StepEvent,
        *,
        performed_by: str,
        reason: str,
        returned: object = None,
        result: str | None = None,
        result_metadata: str | None = None,
    ) -> None:
        """Lock a step, see whether the event is allowed, and move it; `result` is the text of what it `returned`."""
        metadata = {"event": event, "performed_by": performed_by, "reason": reason}

        async def act(transaction: Transaction) -> None:
            step = await lock_step(transaction, task_uuid, step_uuid)
            if step.step_state is None:
                raise await no_such_step(transaction, task_uuid, step_uuid)
            to_state = _state_after(event, step)
            if to_state.satisfies_children:
                resolved = to_state is StepState.RESOLVED_MANUALLY
                await self._expand(transaction, step, returned, resolved=resolved)
            await act_on_step(
                transaction, step, to_state, metadata, result=result, result_metadata=result_metadata
            )

        async def act_alone() -> None:
            async with self._sessions.transaction() as transaction:
                await act(transaction)

        if self._transaction is not None:
            await act(self._transaction)
        else:
            await without_conflict(act_alone)

    async def _expand(
        self, transaction: Transaction, step: LockedStep, returned: object, *, resolved: bool
    ) -> None:
        """Add the steps that a decision or a batch leads to: those of its result, none if it was resolved."""
        assert step.name is not None  # it has a state, so it is there
        assert step.step_type is not None
        step_type = StepType(step.step_type)
        if not step_type.adds_steps:
            return
        expanding = ExpandingStep(step.task_uuid, step.step_uuid, step.name, step_type, returned, resolved)
        for refusal in (await self._expander.expand(transaction, [expanding])).values():
            raise InvalidArgumentError.of("result", f"{refusal.error_code}: {refusal}") from refusal


def check_performer(performed_by: str, reason: str) -> None:
    """Refuse an action of which nobody says who acts and why.

    Raises:
        InvalidArgumentError: One of the two is empty, too long, or cannot be stored.
    """
    check_texts(_LENGTHS, {"performed_by": performed_by, "reason": reason}, required=True)


def _state_after(event: StepEvent, step: LockedStep) -> StepState:
    """Return the state to which an event takes a step that is there; raise if it may not go."""
    assert step.task_state is not None
    assert step.step_state is not None
    state, task_state = StepState(step.step_state), TaskState(step.task_state)
    if task_state.is_terminal and task_state is not TaskState.ERROR:
        why = f"its task is {task_state}, {_OVER}"
    elif (state, event) in STEP_TRANSITIONS:
        return next_state(state, event)
    elif state.is_terminal:
        why = f"it is {state}, {_OVER}"
    else:
        why = f"it is {state}, and only a step in error can be; wait for it, or resolve or complete it"
    said = f"step {step.name} cannot be {_DONE[event]}: {why}"
    raise InvalidStepTransitionError("step", state, event, possible_events(state), said=said)


def _check_resumable(state: TaskState) -> None:
    """Refuse to resume a task that has not stopped."""
    if (state, TaskEvent.RESET) in TASK_TRANSITIONS:
        return
    why = _OVER if state.is_terminal else "and goes on by itself"
    said = f"the task cannot be resumed: it is {state}, {why}"
    raise InvalidTaskTransitionError("task", state, TaskEvent.RESET, possible_events(state), said=said)
