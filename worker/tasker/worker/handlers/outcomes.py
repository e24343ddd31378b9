"""How an execution ended, as the result that is stored.

Whatever a handler returns or raises comes out of here as a result that PostgreSQL can store.
"""

from __future__ import annotations

import math
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

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
    encode_json,
    serialization_problem,
)
from tasker.worker.handlers.checkpoints import NO_PROGRESS, checkpoint_text, is_checkpoint, stands_still
from tasker.worker.handlers.classification import ErrorClassifier
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.errors import (
    HandlerError,
    HandlerResolutionError,
    RateLimitError,
    RetryAfter,
    ServiceUnavailableError,
)
from tasker.worker.handlers.results import StepHandlerResult, normalise_return, result_body, to_jsonable

MAX_MESSAGE_CHARACTERS: Final = 2000
MAX_BACKTRACE_ENTRIES: Final = 25
MAX_BACKTRACE_ENTRY_CHARACTERS: Final = 500
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
class Sealed:
    """A result and its JSON text, encoded once: what proves that it can be stored is also what is sent."""

    result: StepExecutionResult
    payload: str


@dataclass(frozen=True, slots=True)
class Yielded:
    """A handler that wants to go on: its checkpoint as JSON text, and the attempt for the case that it is refused."""

    checkpoint: str
    attempt: Attempt

    def stalled(self, before: Mapping[str, Any] | None) -> Sealed | None:
        """Return the step's outcome if the checkpoint is no further than the one stored before; None if it is."""
        return self.refused(NO_PROGRESS) if stands_still(self.checkpoint, before) else None

    def refused(self, problem: str) -> Sealed:
        """Return the outcome of a checkpoint that could not be stored."""
        return self.attempt.checkpoint_refused(problem)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The facts about one execution that every outcome of it shares.

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

    def returned(self, value: object) -> Sealed | Yielded:
        """Return the outcome of a handler that returned; a `StepHandlerResult` may still say it failed."""
        said = normalise_return(value)
        if is_checkpoint(said):
            return self._yielded(said)
        return self._success(said) if said.is_success else self._refused(said)

    def raised(self, exc: Exception) -> Sealed:
        """Return the outcome of a handler that raised."""
        verdict = ErrorClassifier.classify(exc)
        own = exc if isinstance(exc, HandlerError) else None
        lines = _backtrace(exc)
        notes = {
            "exception_class": type(exc).__name__,
            "traceback": "".join(lines),
            **_storable(own.metadata if own else {}),
        }
        return self._failure(
            _message_of(exc),
            verdict.error_type,
            verdict.retryable,
            backtrace=lines,
            error_code=own.error_code if own else None,
            error_context=_storable(own.context if own else {}),
            notes=notes,
            hints=_hints(own.retry_after, _backoff_type(own)) if own else None,
        )

    def panicked(self, exc: BaseException) -> Sealed:
        """Return the outcome of a handler that something other than an `Exception` escaped from."""
        return self.broke(
            ErrorType.HANDLER_PANIC,
            f"{type(exc).__name__} escaped from the handler: {_message_of(exc)}",
            retryable=False,
            backtrace=_backtrace(exc),
        )

    def broke(
        self, error_type: str, message: str, *, retryable: bool, backtrace: Sequence[str] = (), **custom: Any
    ) -> Sealed:
        """Return the outcome of a fault around the handler rather than in it."""
        return self._failure(
            message, error_type, retryable, status=ResultStatus.ERROR, backtrace=backtrace, custom=custom
        )

    def checkpoint_refused(self, problem: str) -> Sealed:
        """Return the outcome of a checkpoint that cannot be stored; the step may go on from the one before."""
        message = _text(f"the handler's checkpoint cannot be stored: {problem}", MAX_PROBLEM_CHARACTERS)
        return self.broke(ErrorType.CHECKPOINT_ERROR, message, retryable=True)

    def _yielded(self, said: StepHandlerResult) -> Sealed | Yielded:
        try:
            return Yielded(checkpoint_text(said), self)
        except ResultNotStorableError as exc:
            return self.checkpoint_refused(exc.problem)
        except Exception as exc:  # a serializer is the author's code and may raise anything
            return self.checkpoint_refused(_message_of(exc))

    def _success(self, said: StepHandlerResult) -> Sealed:
        body: Any = None
        custom: Any = None
        try:
            body = result_body(said.result)
            custom = to_jsonable(dict(said.metadata)) if said.metadata else {}
            metadata = self._metadata(retryable=False, custom=custom)
            sealed = _seal(
                StepExecutionResult(self.step_uuid, True, ResultStatus.COMPLETED, body, None, metadata)
            )
        except ResultNotStorableError as exc:
            in_notes = serialization_problem(custom)
            problem = serialization_problem(body) or (f"metadata: {in_notes}" if in_notes else exc.problem)
        except Exception as exc:  # a serializer is the author's code and may raise anything
            problem = f"{type(exc).__name__}: {_message_of(exc)}"
        else:
            violations = self.result_check(body) if self.result_check else ()
            return self._out_of_schema(violations) if violations else sealed
        return self.broke(
            ErrorType.RESULT_SERIALIZATION_ERROR,
            _text(f"the handler's result cannot be stored: {problem}", MAX_PROBLEM_CHARACTERS),
            retryable=False,
            original_success=True,
        )

    def _out_of_schema(self, violations: Sequence[FieldViolation]) -> Sealed:
        shown = [
            {
                "field": _text(v.field, MAX_PROBLEM_CHARACTERS),
                "description": _text(v.description, MAX_PROBLEM_CHARACTERS),
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

    def _refused(self, said: StepHandlerResult) -> Sealed:
        return self._failure(
            said.error_message or "the handler reported a failure without a message",
            said.error_type or ErrorType.HANDLER_ERROR,
            said.retryable,
            error_code=said.error_code,
            notes=_storable(said.metadata),
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
    ) -> Sealed:
        error_type = _text(str(error_type), MAX_PROBLEM_CHARACTERS)
        error = StepFailure(
            message=_text(str(message), MAX_MESSAGE_CHARACTERS),
            error_type=error_type,
            retryable=bool(retryable),
            backtrace=tuple(backtrace),
            context=error_context or {},
        )
        metadata = self._metadata(
            retryable=bool(retryable),
            error_type=error_type,
            error_code=None if error_code is None else _text(str(error_code), MAX_PROBLEM_CHARACTERS),
            context=notes or {},
            custom=custom or {},
        )
        result = StepExecutionResult(self.step_uuid, False, status, {}, error, metadata, hints)
        try:
            return _seal(result)
        except ResultNotStorableError as exc:
            # The author's notes are too large together, or the version is no text; the failure itself counts.
            version = self.handler_version if isinstance(self.handler_version, str) else None
            metadata = replace(
                metadata,
                context={"left_out": exc.problem},
                handler_version=None if version is None else _text(version, MAX_PROBLEM_CHARACTERS),
            )
            return _seal(replace(result, error=replace(error, context={}), metadata=metadata))

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


def not_executed(
    context: StepContext,
    error_type: str,
    message: str,
    *,
    retryable: bool,
    worker: WorkerIdentity | None = None,
) -> Sealed:
    """Return the outcome of a claimed step whose handler never ran, such as `worker_shutdown`."""
    now = datetime.now(UTC)
    attempt = Attempt(str(context.step_uuid), worker or WorkerIdentity(), None, now, now)
    return attempt.broke(error_type, message, retryable=retryable)


def not_resolved(
    context: StepContext, error: HandlerResolutionError, *, worker: WorkerIdentity | None = None
) -> Sealed:
    """Return the outcome of a step whose handler, or method of it, is not there."""
    message = f"step {context.step_name!r}: {error}"
    return not_executed(context, error.error_type, message, retryable=False, worker=worker)


def _seal(result: StepExecutionResult) -> Sealed:
    return Sealed(result, encode_json(result.to_json()))


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
        return OrchestrationMetadata(headers={"Retry-After": _text(retry_after, MAX_PROBLEM_CHARACTERS)})
    try:
        seconds = retry_after.total_seconds() if isinstance(retry_after, timedelta) else float(retry_after)
    except (TypeError, ValueError):
        return None  # the failure counts, whatever the author wrote here
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return OrchestrationMetadata(backoff_hint=BackoffHint(backoff_type, seconds))


def _message_of(exc: BaseException) -> str:
    try:
        message = str(exc)
    except BaseException:  # an exception's own __str__ may be broken
        message = ""
    if isinstance(exc, KeyError):
        message = f"KeyError: {message}"  # the key alone says nothing
    return message or type(exc).__name__


def _backtrace(exc: BaseException) -> tuple[str, ...]:
    """Return the traceback, causes included, innermost call last; no local variables, which hold secrets."""
    try:
        lines = list(traceback.TracebackException.from_exception(exc, limit=-MAX_BACKTRACE_ENTRIES).format())
    except BaseException:  # __str__ again, of the exception or of one of its causes
        lines = traceback.format_tb(exc.__traceback__, limit=-MAX_BACKTRACE_ENTRIES)
    return tuple(_text(line, MAX_BACKTRACE_ENTRY_CHARACTERS) for line in lines[-MAX_BACKTRACE_ENTRIES:])


def _storable(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return an author's notes on a failure if they can be stored; they must not hide the failure if not."""
    if not notes:
        return {}
    try:
        plain: dict[str, Any] = to_jsonable(dict(notes))
        encode_json(plain)
    except BaseException as exc:  # ResultNotStorableError, or whatever the author's own serializers raise
        return {"left_out": _text(_message_of(exc), MAX_PROBLEM_CHARACTERS)}
    return plain


def _text(text: str, limit: int) -> str:
    """Return text that PostgreSQL can store, cut to a length."""
    clean = text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
