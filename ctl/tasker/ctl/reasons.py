"""Why tasks and steps failed or were cancelled, in words."""

from __future__ import annotations

from tasker.client import (
    Step,
    StepErrorSummary,
    StepFailure,
    StepIntervention,
    StepState,
    Task,
    TaskCancellation,
    TaskFailure,
)
from tasker.ctl.tables import local


def task_reason(task: Task) -> str:
    """Return why a task does not get on, ended in error or was cancelled; empty if none of that holds."""
    if task.failure is not None:
        return failure_text(task.failure)
    return cancellation_text(task.cancellation) if task.cancellation is not None else ""


def failure_text(failure: TaskFailure) -> str:
    """Return why a task does not get on, or ended in error."""
    if failure.step_name is None:
        return failure.cause
    attempts = f"step {failure.step_name} failed in attempt {failure.attempts} of {failure.max_attempts}"
    if failure.next_retry_at is not None:
        attempts += f", next try at {local(failure.next_retry_at)}"
    elif failure.step_failure is not None and failure.step_state is StepState.ERROR:
        attempts += ", no attempt is left" if failure.step_failure.retryable else ", for good"
    if failure.step_failure is not None:
        attempts += f": {step_failure_text(failure.step_failure)}"
    return attempts if failure.cause.startswith("step_") else f"{failure.cause}; {attempts}"


def step_failure_text(failure: StepFailure | StepErrorSummary) -> str:
    """Return why an attempt at a step failed: kind, code, class and message of the error."""
    kind = " ".join(word for word in (failure.error_type, failure.error_code) if word)
    if failure.error_class:
        kind += f" ({failure.error_class})"
    return f"{kind}: {failure.message}" if failure.message else kind


def step_reason(step: Step) -> str:
    """Return why the last attempt at a step failed, and when the next one is; empty if it did not fail."""
    if step.failure is None:
        return ""
    text = step_failure_text(step.failure)
    waits = step.state is StepState.WAITING_FOR_RETRY and step.next_retry_at is not None
    return f"next try at {local(step.next_retry_at)}: {text}" if waits else text


def cancellation_text(cancellation: TaskCancellation) -> str:
    """Return when, by whom and why a task was cancelled."""
    return local(cancellation.cancelled_at) + _by(cancellation.requested_by, cancellation.reason)


def intervention_text(intervention: StepIntervention) -> str:
    """Return what a person did to a step, who it was and why."""
    return intervention.action + _by(intervention.performed_by, intervention.reason)


def _by(who: str | None, why: str | None) -> str:
    return (f" by {who}" if who else "") + (f": {why}" if why else "")
