"""What a step's execution produced, in the shape that is stored and read by everybody."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

_JsonObject = Mapping[str, Any]


class ErrorType(StrEnum):
    """The values of `error_type` that we write ourselves; handlers may use any other string."""

    # What handlers report.
    PERMANENT_ERROR = "permanent_error"
    RETRYABLE_ERROR = "retryable_error"
    VALIDATION_ERROR = "validation_error"
    TIMEOUT = "timeout"
    HANDLER_ERROR = "handler_error"
    # What the worker reports.
    HANDLER_NOT_FOUND = "handler_not_found"
    HANDLER_METHOD_NOT_FOUND = "handler_method_not_found"
    HANDLER_TIMEOUT = "handler_timeout"
    DEPENDENCIES_TOO_LARGE = "dependencies_too_large"
    HANDLER_PANIC = "handler_panic"
    RESULT_SERIALIZATION_ERROR = "result_serialization_error"
    CHECKPOINT_ERROR = "checkpoint_error"
    SEMAPHORE_ACQUISITION_FAILED = "semaphore_acquisition_failed"
    WORKER_SHUTDOWN = "worker_shutdown"
    # What orchestration decides.
    WORKER_LOST = "worker_lost"
    RESULT_PROCESSING_ERROR = "result_processing_error"
    DECISION_OUTCOME_INVALID = "decision_outcome_invalid"
    BATCH_OUTCOME_INVALID = "batch_outcome_invalid"
    CALLBACK_TIMEOUT = "callback_timeout"


class ResultStatus(StrEnum):
    """Who says so: `failed` is the handler's word, `error` a fault around it."""

    COMPLETED = "completed"
    FAILED = "failed"
    ERROR = "error"


_STATUSES: Final[Mapping[str | None, ResultStatus]] = {status.value: status for status in ResultStatus}


class BackoffType(StrEnum):
    """Why a server asks us to wait."""

    SERVER_REQUESTED = "ServerRequested"
    RATE_LIMIT = "RateLimit"
    SERVICE_UNAVAILABLE = "ServiceUnavailable"
    CUSTOM = "Custom"

    @classmethod
    def _missing_(cls, value: object) -> BackoffType | None:
        # Two spellings are in use: server_requested and ServerRequested; read both.
        wanted = str(value).replace("_", "").lower()
        return next((member for member in cls if member.value.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Why the execution failed; the `error` of a result."""

    message: str
    error_type: str
    retryable: bool
    backtrace: Sequence[str] = ()
    status_code: int | None = None
    context: _JsonObject = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the wire shape."""
        return {
            "message": self.message,
            "error_type": self.error_type,
            "backtrace": list(self.backtrace),
            "retryable": self.retryable,
            "status_code": self.status_code,
            "context": self.context,
        }


@dataclass(frozen=True, slots=True)
class ExecutionMetadata:
    """Facts about one execution; author metadata is `custom` after a success, `context` after a failure."""

    execution_time_ms: int = 0
    handler_version: str | None = None
    retryable: bool = False
    started_at: datetime | None = None
    completed_at: datetime | None = None
    worker_id: str | None = None
    worker_hostname: str | None = None
    custom: _JsonObject = field(default_factory=dict)
    error_code: str | None = None
    error_type: str | None = None
    context: _JsonObject = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the wire shape."""
        return {
            "execution_time_ms": self.execution_time_ms,
            "handler_version": self.handler_version,
            "retryable": self.retryable,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "completed_at": self.completed_at.isoformat() if self.completed_at else None,
            "worker_id": self.worker_id,
            "worker_hostname": self.worker_hostname,
            "custom": self.custom,
            "error_code": self.error_code,
            "error_type": self.error_type,
            "context": self.context,
        }


@dataclass(frozen=True, slots=True)
class BackoffHint:
    """How long a server asked us to wait before the next attempt."""

    backoff_type: BackoffType
    delay_seconds: float
    context: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the wire shape."""
        return {
            "backoff_type": self.backoff_type.value,
            "delay_seconds": self.delay_seconds,
            "context": self.context,
        }


@dataclass(frozen=True, slots=True)
class OrchestrationMetadata:
    """What the handler has to say to the orchestrator: response headers and a hint about the next attempt."""

    headers: _JsonObject = field(default_factory=dict)
    error_context: str | None = None
    backoff_hint: BackoffHint | None = None
    custom: _JsonObject = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the wire shape."""
        return {
            "headers": self.headers,
            "error_context": self.error_context,
            "custom": self.custom,
            "backoff_hint": self.backoff_hint.to_json() if self.backoff_hint else None,
        }


@dataclass(frozen=True, slots=True)
class StepExecutionResult:
    """What one execution of a step produced, as it is stored."""

    step_uuid: str
    success: bool
    status: ResultStatus
    result: Any = field(default_factory=dict)
    error: StepFailure | None = None
    metadata: ExecutionMetadata = field(default_factory=ExecutionMetadata)
    orchestration_metadata: OrchestrationMetadata | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the wire shape; `result` is `{}` after a failure."""
        hints = self.orchestration_metadata
        return {
            "step_uuid": self.step_uuid,
            "success": self.success,
            "result": self.result if self.success else {},
            "status": self.status.value,
            "error": self.error.to_json() if self.error else None,
            "metadata": self.metadata.to_json(),
            "orchestration_metadata": hints.to_json() if hints else None,
        }

    @classmethod
    def from_json(cls, data: object) -> StepExecutionResult | None:
        """Read a stored result, whoever wrote it; None if it is no result at all.

        What is missing or of the wrong type takes its default: a sloppy result must be judged, not lost. A status of
        `error` is a system fault and not retryable unless it says so.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("success"), bool):
            return None
        success = data["success"]
        fallback = ResultStatus.COMPLETED if success else ResultStatus.FAILED
        status = _STATUSES.get(_text(data.get("status")), fallback)
        error = _read_failure(data.get("error"), retryable_by_default=status is not ResultStatus.ERROR)
        retryable_by_default = not success and (
            error.retryable if error else status is not ResultStatus.ERROR
        )
        return cls(
            step_uuid=_text(data.get("step_uuid")) or "",
            success=success,
            status=status,
            result=data.get("result", {}),
            error=error,
            metadata=_read_metadata(_object(data.get("metadata")), retryable_by_default),
            orchestration_metadata=_read_orchestration_metadata(data.get("orchestration_metadata")),
        )


def manual_completion(
    step_uuid: str, result: object, metadata: object = None, *, completed_by: str, reason: str
) -> StepExecutionResult:
    """Wrap what an operator supplied by `complete_manually`.

    An object as metadata is merged into `metadata.custom`, anything else kept as
    `custom.operator_metadata`; the server's marks override the operator's.
    """
    custom: dict[str, Any] = {}
    if isinstance(metadata, Mapping):
        custom.update(metadata)
    elif metadata is not None:
        custom["operator_metadata"] = metadata
    custom |= {"manually_completed": True, "completed_by": completed_by, "completion_reason": reason}
    return StepExecutionResult(
        step_uuid=step_uuid,
        success=True,
        status=ResultStatus.COMPLETED,
        result=result,
        metadata=ExecutionMetadata(custom=custom),
    )


def _read_failure(data: object, *, retryable_by_default: bool) -> StepFailure | None:
    if not isinstance(data, Mapping):
        return None
    backtrace = data.get("backtrace")
    return StepFailure(
        message=_text(data.get("message")) or "",
        error_type=_text(data.get("error_type")) or ErrorType.HANDLER_ERROR,
        retryable=_flag(data.get("retryable"), retryable_by_default),
        backtrace=[str(line) for line in backtrace] if isinstance(backtrace, list) else (),
        status_code=_whole(data.get("status_code")),
        context=_object(data.get("context")),
    )


def _read_metadata(data: _JsonObject, retryable_by_default: bool) -> ExecutionMetadata:
    return ExecutionMetadata(
        execution_time_ms=_whole(data.get("execution_time_ms")) or 0,
        handler_version=_text(data.get("handler_version")),
        retryable=_flag(data.get("retryable"), retryable_by_default),
        started_at=_instant(data.get("started_at")),
        completed_at=_instant(data.get("completed_at")),
        worker_id=_text(data.get("worker_id")),
        worker_hostname=_text(data.get("worker_hostname")),
        custom=_object(data.get("custom")),
        error_code=_text(data.get("error_code")),
        error_type=_text(data.get("error_type")),
        context=_object(data.get("context")),
    )


def _read_orchestration_metadata(data: object) -> OrchestrationMetadata | None:
    if not isinstance(data, Mapping):
        return None
    return OrchestrationMetadata(
        headers=_object(data.get("headers")),
        error_context=_text(data.get("error_context")),
        backoff_hint=_read_hint(_object(data.get("backoff_hint"))),
        custom=_object(data.get("custom")),
    )


def _read_hint(data: _JsonObject) -> BackoffHint | None:
    delay = data.get("delay_seconds")
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not math.isfinite(delay):
        return None
    try:
        backoff_type = BackoffType(data.get("backoff_type", data.get("type")))
    except ValueError:
        return None
    return BackoffHint(backoff_type, delay, _text(data.get("context")))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: object, default: bool) -> bool:
    return value if isinstance(value, bool) else default


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _object(value: object) -> _JsonObject:
    return value if isinstance(value, Mapping) else {}


def _instant(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
