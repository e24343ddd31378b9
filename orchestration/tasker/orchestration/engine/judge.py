"""Judging what was submitted: pure decisions of the domain, applied in one transaction."""

from __future__ import annotations

import random
from collections.abc import Callable

from tasker.domain.losses import Company
from tasker.domain.outcomes import tolerated_failure
from tasker.domain.results import ErrorType, ExecutionMetadata, StepExecutionResult, StepFailure
from tasker.domain.retry import (
    Backoff,
    Fail,
    FailReason,
    Loss,
    OnWorkerLost,
    Retry,
    RetryPolicy,
    judge_failure,
)
from tasker.domain.states import StepState
from tasker.domain.templates.document import StepType
from tasker.domain.templates.expansion import OutcomeRefusedError
from tasker.persistence.operations.judge import StepVerdict, SubmittedStep


def _jitter() -> float:
    return random.uniform(-1, 1)  # noqa: S311 - spreads retries, guards nothing


class Judge:
    """Decides what becomes of a submitted step.

    Args:
        jitter: Yields a number in [-1, 1] for each backoff.
    """

    def __init__(self, jitter: Callable[[], float] = _jitter) -> None:
        self._jitter = jitter

    def judge(self, step: SubmittedStep) -> StepVerdict:
        """Return the verdict on a submitted step; `none` if it is past its notification state."""
        if not StepState(step.state).is_notification:
            return StepVerdict(step.task_uuid, step.step_uuid, "none")
        if step.success:
            return StepVerdict(step.task_uuid, step.step_uuid, "complete")
        result = _result_of(step)
        company = _company(result)
        verdict = judge_failure(
            RetryPolicy(
                step.retryable,
                step.max_attempts,
                Backoff(step.backoff),
                step.backoff_base_ms,
                step.max_backoff_ms,
            ),
            result,
            attempts=step.attempts,
            now=step.judged_at,
            jitter=self._jitter(),
            on_worker_lost=OnWorkerLost(step.on_worker_lost),
            loss=Loss(company, step.losses, step.forgiven_attempts),
        )
        if isinstance(verdict, Retry):
            return StepVerdict(
                step.task_uuid,
                step.step_uuid,
                "retry",
                delay_seconds=verdict.delay.total_seconds(),
                forgiven=verdict.forgiven,
                lost=verdict.lost,
            )
        if verdict.reason is FailReason.ENDS_WORKERS:
            return _ends_workers(step, verdict, company)
        if (tolerated := _tolerated(step, result)) is not None:
            return StepVerdict(
                step.task_uuid, step.step_uuid, "complete", reason=verdict.reason.value, replacement=tolerated
            )
        return StepVerdict(step.task_uuid, step.step_uuid, "error", reason=verdict.reason.value)

    def refuse(self, step: SubmittedStep, refusal: OutcomeRefusedError) -> StepVerdict:
        """Return the verdict on an expanding step whose outcome cannot be carried out."""
        error_type = (
            ErrorType.DECISION_OUTCOME_INVALID
            if step.step_type == StepType.DECISION
            else ErrorType.BATCH_OUTCOME_INVALID
        )
        return StepVerdict(
            step.task_uuid,
            step.step_uuid,
            "error",
            reason=str(refusal),
            replacement={
                "error": StepFailure(
                    str(refusal), error_type, retryable=False, context={"error_code": refusal.error_code}
                ).to_json(),
                "metadata": ExecutionMetadata(error_type=error_type, error_code=refusal.error_code).to_json(),
            },
        )


def _company(result: StepExecutionResult | None) -> Company:
    """Return in which company a step lost its worker, as the sweeper noted it."""
    context = result.error.context if result and result.error else {}
    return Company(context.get("company", Company.BESIDE))


def _ends_workers(step: SubmittedStep, verdict: Fail, company: Company) -> StepVerdict:
    alone = ", the last ones while nothing else ran beside it" if company is Company.ALONE else ""
    message = (
        f"{step.losses + 1} workers ended while they ran this step{alone}: its handler seems to end the process. Look "
        "for os._exit, a crash of native code, or memory that the system took back; mend it, then reset the step"
    )
    error = StepFailure(message, ErrorType.WORKER_LOST, retryable=False)
    return StepVerdict(
        step.task_uuid,
        step.step_uuid,
        "error",
        reason=verdict.reason.value,
        replacement={
            "error": error.to_json(),
            "metadata": ExecutionMetadata(error_type=ErrorType.WORKER_LOST).to_json(),
        },
    )


def _tolerated(step: SubmittedStep, result: StepExecutionResult | None) -> dict[str, object] | None:
    """Return the replacement for an instance that failed for good, where its batch goes on without it."""
    metadata = result.metadata if result else ExecutionMetadata()
    kept = tolerated_failure(step.inputs, step.checkpoint, result.error if result else None, metadata)
    return None if kept is None else {"result": kept, "metadata": metadata.to_json()}


def _result_of(step: SubmittedStep) -> StepExecutionResult | None:
    return StepExecutionResult.from_json(
        {
            "step_uuid": str(step.step_uuid),
            "success": step.success,
            "status": step.status,
            "result": step.result,
            "error": step.error,
            "metadata": step.metadata,
            "orchestration_metadata": step.orchestration_metadata,
        }
    )
