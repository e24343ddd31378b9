"""What operators do by hand: cancel tasks, and reset, resolve or complete steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tasker.domain.errors import (
    GuardFailedError,
    InvalidArgumentError,
    InvalidStepTransitionError,
    TaskNotFoundError,
)
from tasker.domain.results import manual_completion
from tasker.domain.states import StepEvent, StepState, TaskEvent, TaskState, next_state
from tasker.domain.templates.document import StepType
from tasker.orchestration.engine.arguments import check_texts, storable
from tasker.orchestration.engine.expansion import Expander, ExpandingStep
from tasker.persistence.failures import without_conflict
from tasker.persistence.operations.cancel import cancel_task
from tasker.persistence.operations.operate import LockedStep, act_on_step, lock_step, resume_by_hand
from tasker.persistence.queries import Transaction
from tasker.persistence.reading.tasks import no_such_step
from tasker.persistence.sessions import Sessions

#: The longest texts that are kept with a transition.
_LENGTHS: Final[Mapping[str, int]] = {"performed_by": 255, "requested_by": 255, "reason": 500}


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

    def __init__(self, sessions: Sessions, expander: Expander) -> None:
        self._sessions = sessions
        self._expander = expander

    async def cancel(
        self, task_uuid: UUID, *, reason: str | None = None, requested_by: str | None = None
    ) -> Cancellation:
        """Cancel a task and all its steps that are not over. One that is over stays as it is.

        Handlers that run are not waited for; their results come too late.

        Raises:
            InvalidArgumentError: A text is too long.
            TaskNotFoundError: There is no such task.
        """
        check_texts(_LENGTHS, {"reason": reason, "requested_by": requested_by})
        metadata = {"event": "cancel", "reason": reason, "requested_by": requested_by}
        task = await cancel_task(self._sessions, task_uuid, metadata)
        if task is None:
            raise TaskNotFoundError(task_uuid)
        return Cancellation(
            task.cancelled, None if task.cancelled else f"the task is already over: {task.from_state}"
        )

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
            next_state(TaskState(task.from_state), TaskEvent.RESET)
            raise GuardFailedError(
                "task",
                task.from_state,
                TaskEvent.RESET,
                f"{task.failed} of its steps failed; reset, resolve or complete those",
            )

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

        async def act() -> None:
            async with self._sessions.transaction() as transaction:
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

        await without_conflict(act)

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
        raise InvalidStepTransitionError(f"step of a task that is {task_state}", state, event)
    return next_state(state, event)
