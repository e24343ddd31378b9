"""Which status an exception becomes: one table, applied by the interceptor, so that servicers just raise."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from tasker.domain import errors as domain
from tasker.domain.errors import FieldViolation
from tasker.rpc.permissions import Permission, caller
from tasker.telemetry.logs import get_logger

#: Who defines the reasons in `google.rpc.ErrorInfo`.
DOMAIN: Final = "tasker"

#: The whole table. The nearest class in an exception's family decides; whatever is in no
#: row is INTERNAL and keeps its message to itself.
STATUS_OF: Final[Mapping[type[Exception], StatusCode]] = {
    domain.InvalidArgumentError: StatusCode.INVALID_ARGUMENT,
    domain.InvalidTransitionError: StatusCode.INVALID_ARGUMENT,
    domain.GuardFailedError: StatusCode.INVALID_ARGUMENT,
    domain.NotFoundError: StatusCode.NOT_FOUND,
    domain.AlreadyExistsError: StatusCode.ALREADY_EXISTS,
    domain.FailedPreconditionError: StatusCode.FAILED_PRECONDITION,
    domain.ConcurrentChangeError: StatusCode.ABORTED,
    domain.AbandonedError: StatusCode.ABORTED,
    domain.UnauthenticatedError: StatusCode.UNAUTHENTICATED,
    domain.PermissionDeniedError: StatusCode.PERMISSION_DENIED,
    domain.ResourceExhaustedError: StatusCode.RESOURCE_EXHAUSTED,
    domain.UnavailableError: StatusCode.UNAVAILABLE,
    TimeoutError: StatusCode.DEADLINE_EXCEEDED,
    NotImplementedError: StatusCode.UNIMPLEMENTED,  # raised by generated servicers for rpcs not overridden
}

# Exceptions of Python say things that are not for callers.
_MESSAGE_OF: Final = {
    StatusCode.DEADLINE_EXCEEDED: "the operation took too long and was given up",
    StatusCode.UNIMPLEMENTED: "this server does not implement the rpc",
}

# A status travels in trailers, of which clients take 8 KiB by default and end the call with another status if
# there is more. Message (sent twice, once percent-encoded) and details stay well below.
_MESSAGE_BYTES: Final = 1024
_VALUE_BYTES: Final = 256
_DETAILS_BYTES: Final = 3072

_log = get_logger(__name__)


class NotReadyError(domain.UnavailableError):
    """The service cannot do its work.

    Attributes:
        report: The reply that says how each part of it is; it travels in the details of the status.
    """

    reason = "NOT_READY"

    def __init__(self, problems: Iterable[str], report: Message) -> None:
        self.report = report
        super().__init__(f"not ready: {'; '.join(problems)}", retry_after_seconds=5)


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """How a call ends that did not succeed.

    Attributes:
        code: Status code.
        message: For people; repeated in `trailers`.
        reason: As `google.rpc.ErrorInfo` has it.
        facts: The facts of that.
        trailers: `grpc-status-details-bin`, and `retry-after` where repeating helps.
    """

    code: StatusCode
    message: str
    reason: str
    facts: Mapping[str, str]
    trailers: tuple[tuple[str, str | bytes], ...]


def status_of(error: Exception, *, method: str = "") -> RpcStatus:
    """Return the status for an exception; logs those that nobody meant to raise.

    Args:
        error: What a servicer raised.
        method: Full name of the rpc, for the log.
    """
    code = next((STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF), StatusCode.INTERNAL)
    if code is StatusCode.INTERNAL:
        # SQL, paths and values stay in the log; the caller gets an id to ask about.
        correlation_id = str(uuid.uuid4())
        _log.error("rpc_failed", method=method, correlation_id=correlation_id, exc_info=error)
        message = f"internal error; the service's log has the cause under correlation id {correlation_id}"
        return _status(code, message, "INTERNAL", {"correlation_id": correlation_id})
    if not isinstance(error, domain.TaskerError):
        return _status(code, _MESSAGE_OF[code], code.name, {})
    if isinstance(error, domain.IdentityConflictError) and not caller().may(Permission.TASKS_READ):
        error = error.without_task()
    violations = error.violations if isinstance(error, domain.InvalidArgumentError) else ()
    wait = error.retry_after_seconds if isinstance(error, domain.UnavailableError) else None
    report = error.report if isinstance(error, NotReadyError) else None
    return _status(code, str(error), error.reason, error.metadata, violations, wait, report)


def _status(
    code: StatusCode,
    message: str,
    reason: str,
    metadata: Mapping[str, str],
    violations: Iterable[FieldViolation] = (),
    retry_after_seconds: float | None = None,
    report: Message | None = None,
) -> RpcStatus:
    facts = {key: _clip(value, _VALUE_BYTES) for key, value in metadata.items()}
    status = status_pb2.Status(code=code.value[0], message=_clip(message, _MESSAGE_BYTES))
    _add(status, error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=facts))
    if retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(retry_after_seconds * 1_000_000_000))
        _add(status, retry)
    if report is not None and report.ByteSize() <= _DETAILS_BYTES - status.ByteSize():
        _add(status, report)
    if bad_request := _bad_request(violations, _DETAILS_BYTES - status.ByteSize()):
        _add(status, bad_request)
    trailers: tuple[tuple[str, str | bytes], ...] = rpc_status.to_status(status).trailing_metadata
    if retry_after_seconds is not None:
        trailers += (("retry-after", str(math.ceil(retry_after_seconds))),)
    return RpcStatus(code, status.message, reason, facts, trailers)


def _bad_request(violations: Iterable[FieldViolation], room: int) -> error_details_pb2.BadRequest | None:
    """Return as many violations as there is room for."""
    bad_request = error_details_pb2.BadRequest()
    for violation in violations:
        bad_request.field_violations.add(
            field=_clip(violation.field, _VALUE_BYTES), description=_clip(violation.description, _VALUE_BYTES)
        )
        if bad_request.ByteSize() > room:
            del bad_request.field_violations[-1]
            break
    return bad_request if bad_request.field_violations else None


def _add(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def _clip(text: str, limit: int) -> str:
    """Return `text` in at most `limit` bytes; a lone surrogate, which protobuf refuses, becomes `?`."""
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= limit else data[: limit - 3].decode("utf-8", "ignore") + "..."
