"""An attempt at a step: whatever its handler returns or raises becomes a result that PostgreSQL can store."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from tasker.domain.errors import FieldViolation
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
from tasker.domain.storable import (
    MAX_PROBLEM_CHARACTERS,
    ResultNotStorableError,
    serialization_problem,
)
from tasker.worker.handlers.checkpoints import NO_FURTHER, checkpoint_text, is_checkpoint, is_no_further
from tasker.worker.handlers.classification import ErrorClassifier
from tasker.worker.handlers.containment import escaped_from
from tasker.worker.handlers.errors import (
    HandlerError,
    HandlerResolutionError,
    RateLimitError,
    RetryAfter,
    ServiceUnavailableError,
)
from tasker.worker.handlers.jsonable import to_jsonable
from tasker.worker.handlers.results import StepHandlerResult, normalise_return, result_body
from tasker.worker.handlers.sealing import (
    MAX_MESSAGE_CHARACTERS,
    SealedResult,
    backtrace_of,
    message_of,
    seal,
    storable_notes,
    storable_text,
)

_MAX_VIOLATIONS: Final = 20

#: Looks at the object that a success stores, and returns what forbids to store it.
ResultCheck = Callable[[Mapping[str, Any]], Sequence[FieldViolation]]


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who executes: goes into the metadata of every result.

    Attributes:
        worker_id: `worker_<uuid>`, one per process.
        hostname: A label beside it.
    """

    worker_id: str | None = None
    hostname: str = field(default_factory=socket.gethostname)


@dataclass(frozen=True, slots=True)
class Yielded:
    """A handler that wants to go on: its checkpoint as JSON text, and the attempt for the case that it is refused."""

    checkpoint: str
    attempt: Attempt

    def stalled(self, before: Mapping[str, Any] | None) -> SealedResult | None:
        """Return the step's result if the checkpoint is no further than the one stored before; None if it is."""
        return self.refused(NO_FURTHER) if is_no_further(self.checkpoint, before) else None

    def refused(self, problem: str) -> SealedResult:
        """Return the result of a checkpoint that could not be stored."""
        return self.attempt.checkpoint_refused(problem)


#: How a run of a handler ends.
End: TypeAlias = SealedResult | Yielded


@dataclass(frozen=True, slots=True)
class Attempt:
    """The facts about one execution that every result of it shares.

    Attributes:
        result_check: What successes must pass besides; None takes all of them.
    """

    step_uuid: str
    worker: WorkerIdentity
    handler_version: str | None
    started_at: datetime
    completed_at: datetime
    execution_time_ms: int = 0
    result_check: ResultCheck | None = None

    def returned(self, value: object) -> End:
        """Return the end of a run that returned; a `StepHandlerResult` may still say it failed."""
        said = normalise_return(value)
        if is_checkpoint(said):
            return self._yielded(said)
        return self._success(said) if said.is_success else self._reported(said)

    def raised(self, exc: Exception) -> SealedResult:
        """Return the result of a handler that raised."""
        classification = ErrorClassifier.classify(exc)
        own = exc if isinstance(exc, HandlerError) else None
        lines = backtrace_of(exc)
        notes = {
            "exception_class": type(exc).__name__,
            "traceback": "".join(lines),
            **storable_notes(own.metadata if own else {}),
        }
        return self._failure(
            message_of(exc),
            classification.error_type,
            classification.retryable,
            backtrace=lines,
            error_code=own.error_code if own else None,
            error_context=storable_notes(own.context if own else {}),
            notes=notes,
            hints=_hints(own.retry_after, _backoff_type(own)) if own else None,
        )

    def panicked(self, exc: BaseException) -> SealedResult:
        """Return the result of a handler that something other than an `Exception` escaped from."""
        escaped = escaped_from(exc)
        return self.broke(
            ErrorType.HANDLER_PANIC,
            f"{type(escaped).__name__} escaped from the handler: {message_of(escaped)}",
            retryable=False,
            backtrace=backtrace_of(exc),
        )

    def cancelled_itself(self) -> SealedResult:
        """Return the result of a handler that a cancellation escaped from which was not the worker's."""
        return self.broke(
            ErrorType.HANDLER_ERROR,
            "the handler let a cancellation escape that was not the worker's: something that it awaited was "
            "cancelled by its own code or a library",
            retryable=True,
        )

    def broke(
        self, error_type: str, message: str, *, retryable: bool, backtrace: Sequence[str] = (), **custom: Any
    ) -> SealedResult:
        """Return the result of a fault around the handler rather than in it."""
        return self._failure(
            message, error_type, retryable, status=ResultStatus.ERROR, backtrace=backtrace, custom=custom
        )

    def checkpoint_refused(self, problem: str) -> SealedResult:
        """Return the result of a checkpoint that cannot be stored; the step may go on from the one before."""
        message = storable_text(
            f"the handler's checkpoint cannot be stored: {problem}", MAX_PROBLEM_CHARACTERS
        )
        return self.broke(ErrorType.CHECKPOINT_ERROR, message, retryable=True)

    def _yielded(self, said: StepHandlerResult) -> End:
        try:
            return Yielded(checkpoint_text(said), self)
        except ResultNotStorableError as exc:
            return self.checkpoint_refused(exc.problem)
        except Exception as exc:  # a serializer is the author's code and may raise anything
            return self.checkpoint_refused(message_of(exc))

    def _success(self, said: StepHandlerResult) -> SealedResult:
        body: Any = None
        custom: Any = None
        try:
            body = result_body(said.result)
            custom = to_jsonable(dict(said.metadata)) if said.metadata else {}
            metadata = self._metadata(retryable=False, custom=custom)
            sealed = seal(
                StepExecutionResult(self.step_uuid, True, ResultStatus.COMPLETED, body, None, metadata)
            )
        except ResultNotStorableError as exc:
            in_notes = serialization_problem(custom)
            problem = serialization_problem(body) or (f"metadata: {in_notes}" if in_notes else exc.problem)
        except Exception as exc:  # a serializer is the author's code and may raise anything
            problem = f"{type(exc).__name__}: {message_of(exc)}"
        else:
            violations = self.result_check(body) if self.result_check else ()
            return self._out_of_schema(violations) if violations else sealed
        return self.broke(
            ErrorType.RESULT_SERIALIZATION_ERROR,
            storable_text(f"the handler's result cannot be stored: {problem}", MAX_PROBLEM_CHARACTERS),
            retryable=False,
            original_success=True,
        )

    def _out_of_schema(self, violations: Sequence[FieldViolation]) -> SealedResult:
        shown = [
            {
                "field": storable_text(v.field, MAX_PROBLEM_CHARACTERS),
                "description": storable_text(v.description, MAX_PROBLEM_CHARACTERS),
            }
            for v in violations[:_MAX_VIOLATIONS]
        ]
        return self._failure(
            f"the handler's result breaks the step's result_schema: {'; '.join(map(str, violations))}",
            ErrorType.VALIDATION_ERROR,
            False,
            status=ResultStatus.ERROR,
            error_context={"fields": shown},
            custom={"original_success": True},
        )

    def _reported(self, said: StepHandlerResult) -> SealedResult:
        return self._failure(
            said.error_message or "the handler reported a failure without a message",
            said.error_type or ErrorType.HANDLER_ERROR,
            said.retryable,
            error_code=said.error_code,
            notes=storable_notes(said.metadata),
            hints=_hints(said.retry_after, BackoffType.SERVER_REQUESTED),
        )

    def _failure(
        self,
        message: str,
        error_type: str,
        retryable: bool,
        *,
        status: ResultStatus = ResultStatus.FAILED,
        backtrace: Sequence[str] = (),
        error_code: str | None = None,
        error_context: Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
        custom: Mapping[str, Any] | None = None,
        hints: OrchestrationMetadata | None = None,
    ) -> SealedResult:
        error_type = storable_text(str(error_type), MAX_PROBLEM_CHARACTERS)
        error = StepFailure(
            message=storable_text(str(message), MAX_MESSAGE_CHARACTERS),
            error_type=error_type,
            retryable=bool(retryable),
            backtrace=tuple(backtrace),
            context=error_context or {},
        )
        metadata = self._metadata(
            retryable=bool(retryable),
            error_type=error_type,
            error_code=None if error_code is None else storable_text(str(error_code), MAX_PROBLEM_CHARACTERS),
            context=notes or {},
            custom=custom or {},
        )
        result = StepExecutionResult(self.step_uuid, False, status, {}, error, metadata, hints)
        try:
            return seal(result)
        except ResultNotStorableError as exc:
            # The author's notes are too large together, or the version is no text; the failure itself counts.
            version = self.handler_version if isinstance(self.handler_version, str) else None
            metadata = replace(
                metadata,
                context={"left_out": exc.problem},
                handler_version=None if version is None else storable_text(version, MAX_PROBLEM_CHARACTERS),
            )
            return seal(replace(result, error=replace(error, context={}), metadata=metadata))

    def _metadata(self, *, retryable: bool, **facts: Any) -> ExecutionMetadata:
        return ExecutionMetadata(
            execution_time_ms=self.execution_time_ms,
            handler_version=self.handler_version,
            retryable=retryable,
            started_at=self.started_at,
            completed_at=self.completed_at,
            worker_id=self.worker.worker_id,
            worker_hostname=self.worker.hostname,
            **facts,
        )


def given_by_worker(
    step_uuid: UUID, error_type: str, message: str, *, retryable: bool, worker: WorkerIdentity | None = None
) -> SealedResult:
    """Return the result that the worker itself gives a step: its handler never ran, or its own result cannot count."""
    now = datetime.now(UTC)
    attempt = Attempt(str(step_uuid), worker or WorkerIdentity(), None, now, now)
    return attempt.broke(error_type, message, retryable=retryable)


def not_resolved(
    step_uuid: UUID, step_name: str, error: HandlerResolutionError, *, worker: WorkerIdentity | None = None
) -> SealedResult:
    """Return the result of a step whose handler, or method of it, is not there."""
    message = f"step {step_name!r}: {error}"
    return given_by_worker(step_uuid, error.error_type, message, retryable=False, worker=worker)


def _backoff_type(error: HandlerError) -> BackoffType:
    if isinstance(error, RateLimitError):
        return BackoffType.RATE_LIMIT
    if isinstance(error, ServiceUnavailableError):
        return BackoffType.SERVICE_UNAVAILABLE
    return BackoffType.SERVER_REQUESTED


def _hints(retry_after: RetryAfter | None, backoff_type: BackoffType) -> OrchestrationMetadata | None:
    """Put `retry_after` where the retry decision looks for it.

    A header value stays a header, which the decision parses in both its forms; seconds become a hint.
    """
    if retry_after is None:
        return None
    if isinstance(retry_after, str):
        return OrchestrationMetadata(
            headers={"Retry-After": storable_text(retry_after, MAX_PROBLEM_CHARACTERS)}
        )
    try:
        seconds = retry_after.total_seconds() if isinstance(retry_after, timedelta) else float(retry_after)
    except (TypeError, ValueError):
        return None  # the failure counts, whatever the author wrote here
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return OrchestrationMetadata(backoff_hint=BackoffHint(backoff_type, seconds))
