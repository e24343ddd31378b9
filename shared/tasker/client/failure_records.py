"""Why something did not go well."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tasker.domain.states import StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailure:
    """Why an attempt at a step failed.

    Attributes:
        error_type: Kind of error, as the handler or the runtime named it, such as `permanent_error` or `worker_lost`.
        message: What the error says.
        error_class: Class of the exception, if one was raised.
        error_code: The author's own code, such as `CARD_DECLINED`.
        retryable: Whether another attempt may help.
        status_code: HTTP status behind the failure, if there is one.
        backtrace: The traceback as it was stored, innermost call last; empty in the failure of a task.
    """

    error_type: str
    message: str
    error_class: str | None
    error_code: str | None
    retryable: bool
    status_code: int | None
    backtrace: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailure:
    """Why a task does not get on, or ended in `error`: its first failed step, or the one that is retried next.

    Attributes:
        cause: `step_failed`, or `step_retrying` while nothing failed for good; what the service ended the task for
            where it did: `staleness_timeout` or `blocked_for_too_long`.
        step_uuid: The step; None where no step of the task failed.
        step_name: Its name.
        step_state: Where it stands.
        attempts: Attempts at it so far.
        max_attempts: How many there may be.
        next_retry_at: When it is tried again.
        step_failure: Why its last attempt failed, without backtrace and with the beginning of the message.
    """

    cause: str
    step_uuid: UUID | None
    step_name: str | None
    step_state: StepState | None
    attempts: int | None
    max_attempts: int | None
    next_retry_at: datetime | None
    step_failure: StepFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCancellation:
    """Why a task was cancelled.

    Attributes:
        cancelled_at: When.
        reason: Why, if that was said; `ttl_expired` where the template set a time to live.
        requested_by: Who asked for it, if that was said.
    """

    cancelled_at: datetime
    reason: str | None
    requested_by: str | None
