"""What a call can fail with: one exception a status code, with everything the service said about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Final, cast

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio

from tasker.domain.errors import FieldViolation
from tasker.v1 import batch_pb2

_DETAILS: Final = "grpc-status-details-bin"


class TaskerClientError(Exception):
    """A call failed; the message is the service's own.

    Attributes:
        code: The gRPC status code.
        reason: Stable identifier of the cause, such as `TEMPLATE_NOT_FOUND`; the code's name where the other
            side gave none.
        metadata: Facts that belong to the reason, such as the versions there are.
        violations: What is wrong with which field of the request.
        retry_after_seconds: When the service wants to be asked again, if it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        code: StatusCode,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or code.name
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata or {}))
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds


class InvalidArgumentError(TaskerClientError):
    """The request can never succeed as it is; `violations` lists what is wrong with it."""


class NotFoundError(TaskerClientError):
    """What the request names does not exist."""


class AlreadyExistsError(TaskerClientError):
    """An equal task exists, or the idempotency key was used with another context."""


class FailedPreconditionError(TaskerClientError):
    """The system has to change before the request can succeed."""


class AbortedError(TaskerClientError):
    """Somebody else changed the same thing; read it again and repeat."""


class UnauthenticatedError(TaskerClientError):
    """The service does not know who is calling."""


class PermissionDeniedError(TaskerClientError):
    """The service knows who is calling, and refuses."""


class ResourceExhaustedError(TaskerClientError):
    """A limit is reached: too many calls, or too large a message."""


class DeadlineExceededError(TaskerClientError):
    """The answer did not come in time; the request may have been carried out all the same."""


class UnavailableError(TaskerClientError):
    """The service cannot be reached, or cannot take the request now; the same request may succeed later."""


class UnimplementedError(TaskerClientError):
    """The service does not know this call."""


#: Whatever is in no row is a plain TaskerClientError, and its code says the rest.
_CLASS_OF: Final[Mapping[StatusCode, type[TaskerClientError]]] = {
    StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    StatusCode.NOT_FOUND: NotFoundError,
    StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    StatusCode.ABORTED: AbortedError,
    StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    StatusCode.UNAVAILABLE: UnavailableError,
    StatusCode.UNIMPLEMENTED: UnimplementedError,
}
_CODES: Final = {code.value[0]: code for code in StatusCode}


def item_error(status: batch_pb2.ItemStatus) -> TaskerClientError | None:
    """Return the exception that a call of its own would have raised for one of many items; None if it succeeded."""
    if not status.code:
        return None
    code = _CODES.get(status.code, StatusCode.UNKNOWN)
    return _CLASS_OF.get(code, TaskerClientError)(
        status.message, code=code, reason=status.reason, metadata=status.metadata
    )


def client_error(error: aio.AioRpcError) -> TaskerClientError:
    """Return our exception for one of grpc's, with the `google.rpc` details of its status."""
    code = error.code()
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in _status(error).details:
        for message in (info, bad_request, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    return _CLASS_OF.get(code, TaskerClientError)(
        error.details() or f"the call failed with {code.name}",
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        violations=[FieldViolation(one.field, one.description) for one in bad_request.field_violations],
        retry_after_seconds=retry.retry_delay.ToTimedelta().total_seconds()
        if retry.HasField("retry_delay")
        else None,
    )


def _status(error: aio.AioRpcError) -> status_pb2.Status:
    """Return the status with its details; a proxy may have lost or mangled them."""
    trailers = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    value = dict(trailers).get(_DETAILS)
    if isinstance(value, bytes):
        with suppress(DecodeError):
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()
