"""Whether and when a failed step runs again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Final

from tasker.domain.losses import Company, is_culprit
from tasker.domain.results import BackoffType, ErrorType, OrchestrationMetadata, StepExecutionResult

#: How long a worker may be silent before its steps run elsewhere: the life of a lease, whatever the step's timeout.
LEASE: Final = timedelta(seconds=30)
#: How often a worker renews all its leases, in one statement.
LEASE_RENEWAL: Final = timedelta(seconds=10)

#: No wait is longer, whatever a template or a server says.
GLOBAL_CAP: Final = timedelta(seconds=3600)
#: Jitter moves a wait by at most this share of it, either way.
JITTER_SHARE: Final = 0.15
#: What a step without a stored maximum gets.
DEFAULT_MAX_ATTEMPTS: Final = 3

_GLOBAL_CAP_MS: Final = 3_600_000
_GLOBAL_CAP_SECONDS: Final = 3600


class Backoff(StrEnum):
    """How the wait grows from attempt to attempt."""

    NONE = "none"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    FIBONACCI = "fibonacci"


class OnWorkerLost(StrEnum):
    """What becomes of a step whose worker was lost; `fail` is for work that must not repeat."""

    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The retry rules of one step.

    Attributes:
        retryable: Whether there is any execution after the first.
        max_attempts: Executions in all, the first included; None means 3. A stored 0 still allows the first.
        backoff: How the wait grows.
        base_ms: The first wait, in milliseconds.
        max_ms: The longest wait, in milliseconds.
    """

    retryable: bool = True
    max_attempts: int | None = DEFAULT_MAX_ATTEMPTS
    backoff: Backoff = Backoff.EXPONENTIAL
    base_ms: int = 1000
    max_ms: int = 30_000

    def allows_another(self, attempts: int) -> bool:
        """Tell whether a step that was executed `attempts` times may be executed again."""
        return attempts == 0 or (self.retryable and attempts < self.attempts_in_all)

    @property
    def attempts_in_all(self) -> int:
        """Executions in all, by default three."""
        return DEFAULT_MAX_ATTEMPTS if self.max_attempts is None else self.max_attempts


class FailReason(StrEnum):
    """Why there is no further attempt."""

    STEP_NOT_RETRYABLE = "step_not_retryable"
    ERROR_NOT_RETRYABLE = "error_not_retryable"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    WORKER_LOST = "worker_lost"
    ENDS_WORKERS = "ends_workers"


@dataclass(frozen=True, slots=True)
class Loss:
    """How a step lost its worker.

    Attributes:
        company: What else that worker ran.
        losses: Workers it has lost before.
        forgiven_attempts: How many of its attempts were lost without fault, by which `max_attempts` has grown.
    """

    company: Company = Company.BESIDE
    losses: int = 0
    forgiven_attempts: int = 0

    def max_attempts(self, policy: RetryPolicy) -> int:
        """Return how often the step's template has it run."""
        return policy.attempts_in_all - self.forgiven_attempts


@dataclass(frozen=True, slots=True)
class Retry:
    """The step runs again after `delay`.

    Attributes:
        delay: From now.
        forgiven: Whether the attempt does not count, since it was its worker that failed.
        lost: Whether it has lost a worker by which it may be to blame.
    """

    delay: timedelta
    forgiven: bool = False
    lost: bool = False

    @property
    def backoff_request_seconds(self) -> int:
        """The delay in whole seconds, rounded up, as it is stored."""
        return -(-self.delay // timedelta(seconds=1))


@dataclass(frozen=True, slots=True)
class Fail:
    """The step goes to `error`."""

    reason: FailReason


Verdict = Retry | Fail


def judge_failure(
    policy: RetryPolicy,
    result: StepExecutionResult | None,
    *,
    attempts: int,
    now: datetime,
    jitter: float,
    on_worker_lost: OnWorkerLost = OnWorkerLost.RETRY,
    loss: Loss | None = None,
) -> Verdict:
    """Decide what becomes of a step whose execution failed.

    Args:
        policy: The retry rules of the step.
        result: What the worker handed in; None if it cannot be read, then only the other terms count.
        attempts: Executions so far, this one included.
        now: The time a Retry-After date is relative to; aware.
        jitter: A number in [-1, 1], see `backoff_delay`.
        on_worker_lost: What the template wants for a lost worker.
        loss: How it lost its worker, if that is why it failed.

    The first that holds: a lost worker where the template says `fail`; one lost worker too many; an error or a step
    that is not retryable; no attempt left, where the loss of a worker costs none that may run more than once. Else it
    runs again.
    """
    if _error_type(result) == ErrorType.WORKER_LOST:
        if on_worker_lost is OnWorkerLost.FAIL:
            return Fail(FailReason.WORKER_LOST)
        lost = Loss() if loss is None else loss
        if policy.retryable and lost.max_attempts(policy) > 1:
            return _judge_loss(policy, lost, attempts=attempts, jitter=jitter)
    if result is not None and not result.metadata.retryable:
        return Fail(FailReason.ERROR_NOT_RETRYABLE)
    if not policy.retryable:
        return Fail(FailReason.STEP_NOT_RETRYABLE)
    if not policy.allows_another(attempts):
        return Fail(FailReason.ATTEMPTS_EXHAUSTED)
    hint = server_hint(result.orchestration_metadata, now=now) if result is not None else None
    return Retry(backoff_delay(policy, attempts, jitter=jitter) if hint is None else hint)


def _judge_loss(policy: RetryPolicy, loss: Loss, *, attempts: int, jitter: float) -> Verdict:
    begun = loss.company is not Company.WAITING
    if begun and is_culprit(loss.losses + 1, loss.company, max_attempts=loss.max_attempts(policy)):
        return Fail(FailReason.ENDS_WORKERS)
    return Retry(backoff_delay(policy, attempts, jitter=jitter), forgiven=True, lost=begun)


def backoff_delay(policy: RetryPolicy, attempt: int, *, jitter: float) -> timedelta:
    """Return how long to wait before the next attempt.

    Args:
        policy: Backoff kind, base and cap of the step.
        attempt: Attempts already made, starting at 1 (0 counts as 1).
        jitter: A number in [-1, 1], scaled to 15 % either way; 0 gives the exact series.

    Raises:
        ValueError: `jitter` is outside [-1, 1].

    The result never exceeds the step's cap nor one hour, jitter included.
    """
    if not -1.0 <= jitter <= 1.0:
        raise ValueError(f"jitter must be in [-1, 1], got {jitter}")
    cap = min(policy.max_ms, _GLOBAL_CAP_MS)
    exact = min(_series_ms(policy.backoff, policy.base_ms, max(attempt, 1), cap), cap)
    return timedelta(milliseconds=min(exact * (1 + JITTER_SHARE * jitter), cap))


def server_hint(metadata: OrchestrationMetadata | None, *, now: datetime) -> timedelta | None:
    """Return the wait a server asked for, at most one hour, or None if it asked for nothing usable.

    A `Retry-After` header (any case; whole seconds or an HTTP date that is not past) comes before a backoff
    hint; a rate-limit hint counts only if it is positive.

    """
    if metadata is None:
        return None
    if (from_header := _retry_after(metadata.headers, now)) is not None:
        return from_header
    hint = metadata.backoff_hint
    if hint is None or hint.delay_seconds < 0:
        return None
    if hint.backoff_type is BackoffType.RATE_LIMIT and hint.delay_seconds == 0:
        return None
    return timedelta(seconds=min(hint.delay_seconds, _GLOBAL_CAP_SECONDS))


def _series_ms(backoff: Backoff, base: int, attempt: int, cap: int) -> int:
    """Return the exact wait; growth stops at the cap, so that attempt 10^6 costs nothing."""
    match backoff:
        case Backoff.NONE:
            return 0
        case Backoff.LINEAR:
            return base * attempt
        case Backoff.EXPONENTIAL:
            return base << min(attempt - 1, cap.bit_length())
        case Backoff.FIBONACCI:
            wait, after = base, base
            for _ in range(attempt - 1):
                if wait >= cap:
                    break
                wait, after = after, wait + after
            return wait


def _retry_after(headers: Mapping[str, Any], now: datetime) -> timedelta | None:
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return timedelta(seconds=min(value, _GLOBAL_CAP_SECONDS))
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # Ten digits are beyond the cap; what follows is not worth parsing.
        return timedelta(seconds=min(int(text.lstrip("0")[:10] or "0"), _GLOBAL_CAP_SECONDS))
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    return min(wait, GLOBAL_CAP) if wait >= timedelta(0) else None


def _error_type(result: StepExecutionResult | None) -> str | None:
    if result is None:
        return None
    return result.metadata.error_type or (result.error.error_type if result.error else None)
