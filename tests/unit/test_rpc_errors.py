"""What a servicer raises is what a client reads, one row of the table at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from structlog.testing import capture_logs

from tasker.domain import errors
from tasker.domain.errors import FieldViolation
from tasker.rpc.errors import STATUS_OF, status_of
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.server import ServiceRegistration, build_server
from tasker.v1 import tasks_pb2, tasks_pb2_grpc

TASK = UUID("01890000-0000-7000-8000-000000000001")

Action = Callable[[ServicerContext], Awaitable[None]]


class ProbeServicer(tasks_pb2_grpc.TaskServiceServicer):
    """Does what a test says, in a unary and in a streaming rpc."""

    def __init__(self, action: Action) -> None:
        self._action = action

    async def GetTask(
        self, request: tasks_pb2.GetTaskRequest, context: ServicerContext
    ) -> tasks_pb2.GetTaskResponse:
        await self._action(context)
        return tasks_pb2.GetTaskResponse()

    async def StreamTaskStatus(
        self, request: tasks_pb2.StreamTaskStatusRequest, context: ServicerContext
    ) -> AsyncIterator[tasks_pb2.TaskStatusUpdate]:
        yield tasks_pb2.TaskStatusUpdate(cursor="first")
        await self._action(context)


@asynccontextmanager
async def channel_to(
    action: Action, *interceptors: aio.ServerInterceptor[Any, Any]
) -> AsyncIterator[aio.Channel]:
    service = ServiceRegistration(
        tasks_pb2.DESCRIPTOR.services_by_name["TaskService"],
        ProbeServicer(action),
        tasks_pb2_grpc.add_TaskServiceServicer_to_server,
    )
    async with (
        build_server("127.0.0.1:0", services=[service], interceptors=interceptors) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        yield channel


@asynccontextmanager
async def client_of(
    action: Action, *interceptors: aio.ServerInterceptor[Any, Any]
) -> AsyncIterator[tasks_pb2_grpc.TaskServiceAsyncStub]:
    async with channel_to(action, *interceptors) as channel:
        yield tasks_pb2_grpc.TaskServiceStub(channel)


def raising(error: BaseException) -> Action:
    async def action(context: ServicerContext) -> None:
        raise error

    return action


async def unary(stub: tasks_pb2_grpc.TaskServiceAsyncStub) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.GetTask(tasks_pb2.GetTaskRequest(), timeout=10)
    return caught.value


async def streamed(stub: tasks_pb2_grpc.TaskServiceAsyncStub) -> aio.AioRpcError:
    updates = stub.StreamTaskStatus(tasks_pb2.StreamTaskStatusRequest(), timeout=10)
    first = await updates.read()
    assert isinstance(first, tasks_pb2.TaskStatusUpdate)
    assert first.cursor == "first"
    with pytest.raises(aio.AioRpcError) as caught:
        await updates.read()
    return caught.value


SHAPES = pytest.mark.parametrize("call", [unary, streamed])


def trailers_of(error: aio.AioRpcError) -> dict[str, str | bytes]:
    trailers: Any = error.trailing_metadata()  # whose stub has no items
    return dict(iter(trailers))


def details_of(error: aio.AioRpcError) -> list[Message]:
    """Return the unpacked details of the status a client received."""
    status = status_pb2.Status.FromString(trailers_of(error)["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    return [unpacked(detail) for detail in status.details]


def unpacked(detail: Any) -> Message:
    kind = {
        "ErrorInfo": error_details_pb2.ErrorInfo,
        "BadRequest": error_details_pb2.BadRequest,
        "RetryInfo": error_details_pb2.RetryInfo,
    }[detail.TypeName().removeprefix("google.rpc.")]
    message: Message = kind()
    assert detail.Unpack(message)
    return message


def info(reason: str, **metadata: str) -> Message:
    message: Message = error_details_pb2.ErrorInfo(reason=reason, domain="tasker", metadata=metadata)
    return message


#: Exception, code, ErrorInfo. A row for each line of the table, by an error that callers really meet.
ROWS = [
    (
        errors.UnknownTemplateError("shop", "checkout", "9.9.9", ["1.0.0"]),
        StatusCode.INVALID_ARGUMENT,
        info(
            "TEMPLATE_NOT_FOUND", namespace="shop", name="checkout", version="9.9.9", known_versions="1.0.0"
        ),
    ),
    (
        errors.InvalidStepTransitionError("step", "complete", "reset_for_retry"),
        StatusCode.INVALID_ARGUMENT,
        info("STEP_TRANSITION_NOT_ALLOWED", entity="step", state="complete", event="reset_for_retry"),
    ),
    (
        errors.GuardFailedError("task", "pending", "complete", "steps are open", done="completed"),
        StatusCode.INVALID_ARGUMENT,
        info("GUARD_FAILED", entity="task", state="pending", event="complete", condition="steps are open"),
    ),
    (
        errors.TaskNotFoundError(TASK),
        StatusCode.NOT_FOUND,
        info("TASK_NOT_FOUND", task_uuid=str(TASK)),
    ),
    (
        errors.IdentityConflictError("shop", "checkout", "1.0.0"),
        StatusCode.ALREADY_EXISTS,
        info("IDENTITY_CONFLICT", namespace="shop", name="checkout", version="1.0.0"),
    ),
    (
        errors.IdentityConflictError("shop", "checkout", "1.0.0", existing_task_uuid=TASK),
        StatusCode.ALREADY_EXISTS,
        info("IDENTITY_CONFLICT", namespace="shop", name="checkout", version="1.0.0", task_uuid=str(TASK)),
    ),
    (
        errors.TemplateInUseError("shop", "checkout", "1.0.0", 3),
        StatusCode.FAILED_PRECONDITION,
        info("TEMPLATE_IN_USE", namespace="shop", name="checkout", version="1.0.0", running_tasks="3"),
    ),
    (
        errors.ConcurrentChangeError("the entry changed since it was read"),
        StatusCode.ABORTED,
        info("CONCURRENT_CHANGE"),
    ),
    (
        errors.AbandonedError(7),
        StatusCode.ABORTED,
        info("ABANDONED", refused_index="7"),
    ),
    (
        errors.UnauthenticatedError("invalid or expired credentials"),
        StatusCode.UNAUTHENTICATED,
        info("UNAUTHENTICATED"),
    ),
    (
        errors.PermissionDeniedError("tasks:create"),
        StatusCode.PERMISSION_DENIED,
        info("PERMISSION_DENIED", permission="tasks:create"),
    ),
    (
        errors.TooManyStreamsError("no further stream", limit=7),
        StatusCode.RESOURCE_EXHAUSTED,
        info("TOO_MANY_STREAMS", limit="7"),
    ),
    (
        errors.UnavailableError("too much is queued", retry_after_seconds=7),
        StatusCode.UNAVAILABLE,
        info("UNAVAILABLE", retry_after_seconds="7"),
    ),
]


def test_the_rows_cover_the_table() -> None:
    covered = {kind for error, _, _ in ROWS for kind in type(error).__mro__}
    assert STATUS_OF.keys() - covered == {TimeoutError, NotImplementedError}  # have tests of their own below


def test_every_error_of_the_domain_has_a_row() -> None:
    def family(kind: type[Exception]) -> Iterator[type[Exception]]:
        for child in kind.__subclasses__():
            yield child
            yield from family(child)

    of_domain = [kind for kind in family(errors.TaskerError) if kind.__module__ == errors.__name__]
    assert [kind for kind in of_domain if not STATUS_OF.keys() & set(kind.__mro__)] == []


@SHAPES
@pytest.mark.parametrize(("error", "code", "error_info"), ROWS, ids=[type(row[0]).__name__ for row in ROWS])
async def test_an_error_arrives_as_its_status(
    call: Callable[[tasks_pb2_grpc.TaskServiceAsyncStub], Awaitable[aio.AioRpcError]],
    error: errors.TaskerError,
    code: StatusCode,
    error_info: Message,
) -> None:
    async with client_of(raising(error)) as stub:
        received = await call(stub)
    assert (received.code(), received.details()) == (code, str(error))
    assert details_of(received)[0] == error_info


async def test_violations_name_their_fields() -> None:
    error = errors.InvalidArgumentError(
        [FieldViolation("name", "must not be empty"), FieldViolation("priority", "is 101, at most 100")]
    )
    async with client_of(raising(error)) as stub:
        _, bad_request = details_of(await unary(stub))
    assert isinstance(bad_request, error_details_pb2.BadRequest)
    assert [(violation.field, violation.description) for violation in bad_request.field_violations] == [
        ("name", "must not be empty"),
        ("priority", "is 101, at most 100"),
    ]


async def test_unavailable_says_when_to_try_again() -> None:
    async with client_of(raising(errors.UnavailableError("starting", retry_after_seconds=7))) as stub:
        received = await unary(stub)
    _, retry = details_of(received)
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToTimedelta().total_seconds() == 7
    assert trailers_of(received)["retry-after"] == "7"


@SHAPES
async def test_an_unexpected_error_keeps_its_secrets(
    call: Callable[[tasks_pb2_grpc.TaskServiceAsyncStub], Awaitable[aio.AioRpcError]],
) -> None:
    error = RuntimeError("SELECT secret FROM /var/lib/tasker")
    with capture_logs() as logs:
        async with client_of(raising(error)) as stub:
            received = await call(stub)
    (line,) = logs
    assert line["exc_info"] is error
    assert line["method"].startswith("/tasker.v1.TaskService/")
    assert received.code() is StatusCode.INTERNAL
    assert received.details() == (
        f"internal error; the service's log has the cause under correlation id {line['correlation_id']}"
    )
    assert details_of(received) == [info("INTERNAL", correlation_id=line["correlation_id"])]


async def test_a_timeout_is_the_deadline_of_the_operation() -> None:
    async with client_of(raising(TimeoutError("pool: postgresql://user:secret@db"))) as stub:
        received = await unary(stub)
    assert (received.code(), received.details()) == (
        StatusCode.DEADLINE_EXCEEDED,
        "the operation took too long and was given up",
    )
    assert details_of(received) == [info("DEADLINE_EXCEEDED")]


async def test_what_a_servicer_aborts_itself_stays_as_it_is() -> None:
    async def abort(context: ServicerContext) -> None:
        await context.abort(StatusCode.DATA_LOSS, "as said")

    async with client_of(abort) as stub:
        received = await unary(stub)
    assert (received.code(), received.details()) == (StatusCode.DATA_LOSS, "as said")


async def test_trailers_set_before_the_error_arrive_too() -> None:
    async def action(context: ServicerContext) -> None:
        context.set_trailing_metadata((("x-correlation-id", "abc"),))
        raise errors.TaskNotFoundError(TASK)

    async with client_of(action) as stub:
        received = await unary(stub)
    assert trailers_of(received).keys() >= {"x-correlation-id", "grpc-status-details-bin"}


async def test_cancellation_passes_through() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def action(context: ServicerContext) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with capture_logs() as logs:
        async with client_of(action) as stub:
            call = stub.GetTask(tasks_pb2.GetTaskRequest())
            await asyncio.wait_for(started.wait(), 10)
            call.cancel()
            await asyncio.wait_for(cancelled.wait(), 10)
    assert logs == []


async def test_a_stream_is_finished_when_its_client_leaves() -> None:
    begun, finished = asyncio.Event(), asyncio.Event()

    async def action(context: ServicerContext) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            finished.set()

    async with client_of(action) as stub:
        call = stub.StreamTaskStatus(tasks_pb2.StreamTaskStatusRequest())
        await call.read()
        await asyncio.wait_for(begun.wait(), 10)  # the first message may arrive before its sending is over
        call.cancel()
        await asyncio.wait_for(finished.wait(), 10)


class Refusing(aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        raise errors.UnauthenticatedError("no credentials")


async def test_an_interceptor_may_raise_as_well() -> None:
    async with client_of(raising(AssertionError("not reached")), Refusing()) as stub:
        assert (await unary(stub)).code() is StatusCode.UNAUTHENTICATED
        with pytest.raises(aio.AioRpcError, match="no credentials"):
            await stub.StreamTaskStatus(tasks_pb2.StreamTaskStatusRequest(), timeout=10).read()


@pytest.mark.parametrize("rpc", ["tasker.v1.TaskService/GetTask", "tasker.v1.TaskService/StreamTaskStatus"])
async def test_bytes_that_are_no_message_are_the_callers_mistake(
    rpc: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with channel_to(raising(AssertionError("not reached"))) as channel:
        call = channel.unary_stream(f"/{rpc}", bytes, bytes)(b"\x0a\x02\xff\xfe", timeout=10)
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    assert rpc in str(caught.value.details())
    assert details_of(caught.value) == [info("INVALID_ARGUMENT")]
    assert caplog.records == []


async def test_an_undecodable_message_in_a_stream_is_the_callers_mistake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with channel_to(raising(AssertionError("not reached"))) as channel:
        method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        call = channel.stream_stream(method, bytes, bytes)(None, timeout=10)
        await call.write(b"\xff" * 10)
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    assert caplog.records == []


async def test_an_rpc_that_is_not_written_is_unimplemented() -> None:
    async with client_of(raising(AssertionError("not reached"))) as stub:
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.CancelTask(tasks_pb2.CancelTaskRequest(), timeout=10)
    assert caught.value.code() is StatusCode.UNIMPLEMENTED


async def test_an_error_of_any_size_reaches_the_client() -> None:
    """More trailers than a client takes would end the call with another status than the one meant."""
    error = errors.InvalidArgumentError(
        [FieldViolation(f"context.items[{i}].größe", "ist zu groß \ud800 " * 20) for i in range(1000)]
    )
    async with client_of(raising(error)) as stub:
        received = await unary(stub)
    assert received.code() is StatusCode.INVALID_ARGUMENT
    _, bad_request = details_of(received)
    assert isinstance(bad_request, error_details_pb2.BadRequest)
    assert bad_request.field_violations[0].field == "context.items[0].größe"


def test_trailers_have_an_upper_bound() -> None:
    error = errors.TemplateNotFoundError("n", "t", "v", [f"1.0.{i}" for i in range(1000)])
    status = status_of(error)
    assert len(status.message.encode()) <= 1024
    assert sum(len(key) + len(value) for key, value in status.trailers) < 5000
