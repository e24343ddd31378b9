"""Statements about results that say, when they fail, what the handler did instead."""

from __future__ import annotations

from typing import Any, TypeAlias

from tasker.domain.results import StepExecutionResult, StepFailure
from tasker.testing.runs import HandlerRun
from tasker.testing.tasks import Step

#: Whatever has a result: of `run_handler`, of `run_to_completion`, or a step of a task of the engine.
HasResult: TypeAlias = StepExecutionResult | HandlerRun | Step


def assert_succeeded(ran: HasResult) -> Any:
    """Assert that a handler succeeded, and return what it stored.

    Raises:
        AssertionError: It failed; with its error and traceback.
    """
    result = _result_of(ran)
    if not result.success:
        raise AssertionError(f"it did not succeed: {_told(result)}{_traceback(result)}")
    return result.result


def assert_retryable(
    ran: HasResult,
    error_type: str | None = None,
    *,
    message: str | None = None,
    retry_after: float | None = None,
) -> StepFailure:
    """Assert that a handler failed in a way that is tried again, and return the error.

    Args:
        ran: What ran.
        error_type: Its type, such as `retryable_error`; any by default.
        message: A text that its message contains.
        retry_after: How many seconds it asked to wait.

    Raises:
        AssertionError: It succeeded, or failed in another way; with what it did.
    """
    error = _failure(ran, error_type, message, retryable=True)
    asked = _seconds_asked(_result_of(ran))
    if retry_after is not None and asked != retry_after:
        raise AssertionError(f"it asked to wait {asked} s, not {retry_after:g} s: {_told(_result_of(ran))}")
    return error


def assert_permanent(
    ran: HasResult, error_type: str | None = None, *, message: str | None = None
) -> StepFailure:
    """Assert that a handler failed for good, and return the error.

    Args:
        ran: What ran.
        error_type: Its type, such as `permanent_error` or `validation_error`; any by default.
        message: A text that its message contains.

    Raises:
        AssertionError: It succeeded, or failed in another way; with what it did.
    """
    return _failure(ran, error_type, message, retryable=False)


def assert_routes(ran: HasResult, *step_names: str) -> None:
    """Assert that a decision chose exactly these steps, in any order.

    Raises:
        AssertionError: It failed, decided nothing or chose others.
    """
    outcome = _outcome(ran)
    chosen = sorted(outcome.get("step_names") or [])
    if outcome["type"] != "create_steps" or chosen != sorted(step_names):
        raise AssertionError(f"it chose {chosen or 'no step'}, not {sorted(step_names)}")


def assert_skips(ran: HasResult) -> None:
    """Assert that a decision chose no step at all.

    Raises:
        AssertionError: It failed, decided nothing or chose some.
    """
    outcome = _outcome(ran)
    if outcome["type"] != "no_branches":
        raise AssertionError(f"it chose {outcome.get('step_names')}, not none")


def _failure(ran: HasResult, error_type: str | None, message: str | None, *, retryable: bool) -> StepFailure:
    result = _result_of(ran)
    kind = "retryable" if retryable else "permanent"
    error = result.error
    if error is None:
        raise AssertionError(f"it did not fail ({kind}): {_told(result)}")
    if error.retryable is not retryable:
        raise AssertionError(f"its failure is not {kind}: {_told(result)}{_traceback(result)}")
    if error_type is not None and error.error_type != error_type:
        raise AssertionError(
            f"its failure is not of type {error_type!r}: {_told(result)}{_traceback(result)}"
        )
    if message is not None and message not in error.message:
        raise AssertionError(f"its failure does not say {message!r}: {_told(result)}")
    return error


def _outcome(ran: HasResult) -> dict[str, Any]:
    body = assert_succeeded(ran)
    outcome = body.get("decision_point_outcome") if isinstance(body, dict) else None
    if not isinstance(outcome, dict):
        raise AssertionError(f"it decided nothing: {_told(_result_of(ran))}")
    return outcome


def _result_of(ran: HasResult) -> StepExecutionResult:
    if isinstance(ran, StepExecutionResult):
        return ran
    result = ran.result if isinstance(ran, HandlerRun) else ran.outcome
    if result is None:
        raise AssertionError("the step has no result yet: no attempt of it has ended")
    return result


def _seconds_asked(result: StepExecutionResult) -> float | None:
    said = result.orchestration_metadata
    return None if said is None or said.backoff_hint is None else said.backoff_hint.delay_seconds


def _told(result: StepExecutionResult) -> str:
    if (error := result.error) is None:
        return f"it returned {result.result!r}"
    kind = "retryable" if error.retryable else "permanent"
    return f"{error.error_type} ({kind}): {error.message}"


def _traceback(result: StepExecutionResult) -> str:
    lines = result.error.backtrace if result.error else ()
    return "".join(["\n", *lines]) if lines else ""
