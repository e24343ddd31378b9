"""Whether a failed step runs again, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain.losses import Company
from tasker.domain.results import (
    BackoffHint,
    BackoffType,
    ErrorType,
    ExecutionMetadata,
    OrchestrationMetadata,
    ResultStatus,
    StepExecutionResult,
    StepFailure,
)
from tasker.domain.retry import (
    GLOBAL_CAP,
    Backoff,
    Fail,
    FailReason,
    Loss,
    OnWorkerLost,
    Retry,
    RetryPolicy,
    Verdict,
    backoff_delay,
    judge_failure,
    server_hint,
)

NOW = datetime(2026, 3, 14, 12, 0, 0, tzinfo=UTC)


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def failed(
    *,
    retryable: bool = True,
    error_type: str = "handler_error",
    headers: dict[str, Any] | None = None,
    hint: BackoffHint | None = None,
) -> StepExecutionResult:
    return StepExecutionResult(
        step_uuid="s",
        success=False,
        status=ResultStatus.FAILED,
        error=StepFailure("no", error_type, retryable),
        metadata=ExecutionMetadata(retryable=retryable),
        orchestration_metadata=OrchestrationMetadata(headers=headers or {}, backoff_hint=hint),
    )


def judged(
    policy: RetryPolicy, attempts: int, result: StepExecutionResult | None = None, **more: Any
) -> Verdict:
    return judge_failure(policy, result or failed(), attempts=attempts, now=NOW, jitter=0.0, **more)


@pytest.mark.parametrize(
    ("backoff", "series"),
    [
        (Backoff.NONE, [0, 0, 0, 0]),
        (Backoff.LINEAR, [1, 2, 3, 4, 5]),
        (Backoff.EXPONENTIAL, [1, 2, 4, 8, 16, 30, 30]),
        (Backoff.FIBONACCI, [1, 1, 2, 3, 5, 8, 13, 21, 30, 30]),
    ],
)
def test_the_exact_series(backoff: Backoff, series: list[int]) -> None:
    policy = RetryPolicy(backoff=backoff)
    waits = [
        backoff_delay(policy, attempt, jitter=0).total_seconds() for attempt in range(1, len(series) + 1)
    ]
    assert waits == series


@given(
    backoff=st.sampled_from(Backoff),
    base=st.integers(100, 3_600_000),
    cap=st.integers(1000, 3_600_000),
    attempt=st.integers(0, 10**6),
    jitter=st.floats(-1, 1),
)
def test_jitter_never_exceeds_a_cap(
    backoff: Backoff, base: int, cap: int, attempt: int, jitter: float
) -> None:
    policy = RetryPolicy(backoff=backoff, base_ms=base, max_ms=cap)
    wait = backoff_delay(policy, attempt, jitter=jitter)
    exact = backoff_delay(policy, attempt, jitter=0)
    assert timedelta(0) <= wait <= timedelta(milliseconds=cap) <= GLOBAL_CAP
    assert exact * 0.8499 <= wait <= exact * 1.1501


def test_jitter_outside_its_range_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        backoff_delay(RetryPolicy(), 1, jitter=1.01)


def test_three_attempts_with_the_default_waits_and_then_no_more() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert judged(policy, 1) == Retry(seconds(1))
    assert judged(policy, 2) == Retry(seconds(2))
    assert judged(policy, 3) == Fail(FailReason.ATTEMPTS_EXHAUSTED)
    assert judge_failure(policy, failed(), attempts=1, now=NOW, jitter=1.0) == Retry(seconds(1.15))
    assert judge_failure(policy, failed(), attempts=2, now=NOW, jitter=-1.0) == Retry(seconds(1.7))


def test_one_execution_when_there_is_nothing_to_repeat() -> None:
    assert judged(RetryPolicy(max_attempts=1), 1) == Fail(FailReason.ATTEMPTS_EXHAUSTED)
    assert judged(RetryPolicy(max_attempts=0), 1) == Fail(FailReason.ATTEMPTS_EXHAUSTED)
    assert judged(RetryPolicy(retryable=False), 1) == Fail(FailReason.STEP_NOT_RETRYABLE)
    assert judged(RetryPolicy(), 1, failed(retryable=False)) == Fail(FailReason.ERROR_NOT_RETRYABLE)


def test_the_first_execution_needs_no_permission() -> None:
    assert RetryPolicy(retryable=False, max_attempts=0).allows_another(0)
    assert RetryPolicy(max_attempts=None).allows_another(2)
    assert not RetryPolicy(max_attempts=None).allows_another(3)


def test_an_unreadable_result_is_judged_by_the_other_terms() -> None:
    assert judge_failure(RetryPolicy(), None, attempts=1, now=NOW, jitter=0) == Retry(seconds(1))
    assert judge_failure(RetryPolicy(), None, attempts=3, now=NOW, jitter=0) == Fail(
        FailReason.ATTEMPTS_EXHAUSTED
    )


def test_timeouts_retry() -> None:
    assert judged(RetryPolicy(), 1, failed(error_type=ErrorType.HANDLER_TIMEOUT)) == Retry(seconds(1))


def test_a_lost_worker_is_retried_unless_the_template_says_otherwise() -> None:
    lost = failed(error_type=ErrorType.WORKER_LOST)
    assert judged(RetryPolicy(), 1, lost) == Retry(seconds(1), forgiven=True, lost=True)
    assert judged(RetryPolicy(), 3, lost) == Retry(seconds(4), forgiven=True, lost=True)
    assert judged(RetryPolicy(max_attempts=1), 1, lost) == Fail(FailReason.ATTEMPTS_EXHAUSTED)
    assert judged(RetryPolicy(retryable=False), 1, lost) == Fail(FailReason.STEP_NOT_RETRYABLE)
    assert judged(RetryPolicy(), 1, lost, on_worker_lost=OnWorkerLost.FAIL) == Fail(FailReason.WORKER_LOST)
    assert judged(RetryPolicy(), 1, failed(), on_worker_lost=OnWorkerLost.FAIL) == Retry(seconds(1))


def test_a_step_that_runs_once_only_is_not_repeated_by_what_was_forgiven() -> None:
    lost = failed(error_type=ErrorType.WORKER_LOST)
    once = judged(RetryPolicy(max_attempts=2), 2, lost, loss=Loss(losses=1, forgiven_attempts=1))
    assert once == Fail(FailReason.ATTEMPTS_EXHAUSTED)


@pytest.mark.parametrize(
    ("company", "before", "max_attempts", "verdict"),
    [
        (Company.BESIDE, 3, 3, "lost"),
        (Company.BESIDE, 4, 3, "fails"),
        (Company.ALONE, 2, 3, "lost"),
        (Company.ALONE, 3, 3, "fails"),
        (Company.ALONE, 3, 5, "lost"),
        (Company.ALONE, 9, 50, "fails"),
        (Company.WAITING, 20, 3, "forgiven"),  # it had not begun
    ],
)
def test_what_loses_one_worker_after_the_other_is_given_up(
    company: Company, before: int, max_attempts: int, verdict: str
) -> None:
    policy = RetryPolicy(max_attempts=max_attempts + before, backoff=Backoff.NONE)
    loss = Loss(company, losses=before, forgiven_attempts=before)
    expected = {
        "lost": Retry(seconds(0), forgiven=True, lost=True),
        "forgiven": Retry(seconds(0), forgiven=True, lost=False),
        "fails": Fail(FailReason.ENDS_WORKERS),
    }
    found = judged(policy, before + 1, failed(error_type=ErrorType.WORKER_LOST), loss=loss)
    assert found == expected[verdict]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"RETRY-AFTER": 7}, 7),
        ({"Retry-After": "1000000"}, 3600),
        ({"Retry-After": "9" * 400}, 3600),
        ({"Retry-After": "000000000000012"}, 12),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "Sat, 14 Mar 2026 12:00:30 GMT"}, 30),
        ({"Retry-After": "Saturday, 14-Mar-26 12:00:30 GMT"}, 30),
        ({"Retry-After": "Sat, 14 Mar 2026 15:00:00 GMT"}, 3600),
        ({"Retry-After": "Sat, 14 Mar 2026 11:59:59 GMT"}, None),
        ({"Retry-After": "-7"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": True}, None),
        ({"X-Other": "7"}, None),
    ],
)
def test_a_retry_after_header(headers: dict[str, Any], wait: int | None) -> None:
    hint = server_hint(OrchestrationMetadata(headers=headers), now=NOW)
    assert hint == (None if wait is None else seconds(wait))


@pytest.mark.parametrize(
    ("kind", "delay", "wait"),
    [
        (BackoffType.SERVER_REQUESTED, 12, 12),
        (BackoffType.SERVICE_UNAVAILABLE, 0, 0),
        (BackoffType.CUSTOM, 1.5, 1.5),
        (BackoffType.CUSTOM, 10**6, 3600),
        (BackoffType.CUSTOM, -1, None),
        (BackoffType.RATE_LIMIT, 5, 5),
        (BackoffType.RATE_LIMIT, 0, None),
    ],
)
def test_a_backoff_hint(kind: BackoffType, delay: float, wait: float | None) -> None:
    metadata = OrchestrationMetadata(backoff_hint=BackoffHint(kind, delay))
    assert server_hint(metadata, now=NOW) == (None if wait is None else seconds(wait))


def test_a_hint_beats_the_backoff_and_its_cap_and_takes_no_jitter() -> None:
    policy = RetryPolicy(base_ms=1000, max_ms=2000)
    hinted = failed(headers={"Retry-After": "7"}, hint=BackoffHint(BackoffType.CUSTOM, 99))
    assert judge_failure(policy, hinted, attempts=1, now=NOW, jitter=1.0) == Retry(seconds(7))
    past = failed(headers={"Retry-After": "Sat, 14 Mar 2026 11:00:00 GMT"})
    assert judge_failure(policy, past, attempts=1, now=NOW, jitter=0) == Retry(seconds(1))


def test_the_stored_seconds_are_rounded_up() -> None:
    assert Retry(seconds(1.001)).backoff_request_seconds == 2
    assert Retry(seconds(2)).backoff_request_seconds == 2
    assert Retry(seconds(0)).backoff_request_seconds == 0
