"""Turns what a servicer raises, and what is no request at all, into the status that `tasker.rpc.errors` gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, nullcontext
from inspect import isasyncgen
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from tasker.domain.errors import InvalidArgumentError
from tasker.rpc.errors import status_of
from tasker.rpc.permissions import is_public
from tasker.rpc.streams import OpenStreams, public_streams
from tasker.rpc.undecodable import DEEPEST_MESSAGE, nested_too_deeply

#: What grpc hands to servicers with each call. Generic for type checkers only, hence the quotes; the messages are named
#: by the method's own signature.
ServicerContext: TypeAlias = "aio.ServicerContext[Any, Any]"

# Messages of every type pass through here unseen.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Behaviour: TypeAlias = Callable[[Any, ServicerContext], Any]
_Deserializer: TypeAlias = Callable[[bytes], Any]
Translate: TypeAlias = Callable[[Exception], Exception]
Refused: TypeAlias = Callable[[Exception, str, str], None]

#: By `response_streaming`. To grpc every method takes a stream of requests, which is the same on the wire: asked for a
#: single one that never comes it would not answer the call at all.
_HANDLER_OF: Final[Mapping[bool, Callable[..., _Handler]]] = {
    False: grpc.stream_unary_rpc_method_handler,
    True: grpc.stream_stream_rpc_method_handler,
}


class _Undecodable:
    """Stands for a request whose bytes are no message of its type.

    Attributes:
        path: What is nested too deeply, if that is what is wrong.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path


class ErrorInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Ends a call whose servicer raised with the status, details and trailers of the exception.

    Covers asynchronous servicers of every shape, and interceptors further in. Cancellation and calls that a
    servicer aborted itself pass through. A request that cannot be decoded never reaches the servicer: it is an
    InvalidArgumentError, and so is a call that ends without one.

    Args:
        translate: Turns errors of libraries that this package does not know into ones of the table.

        refused: Told of each call that an interceptor further in refused: the error, the method, the peer.

    Streams that everybody may open are counted here, before anything is read: one too many is refused.
    """

    def __init__(
        self, translate: Translate = lambda error: error, *, refused: Refused = lambda *_: None
    ) -> None:
        self._translate = translate
        self._refused = refused
        self._public_streams = public_streams()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the handler with the table applied; called by grpc for each call."""
        method = handler_call_details.method
        try:
            handler: _Handler | None = await continuation(handler_call_details)
        except Exception as error:
            return _refusing(self._translate(error), method, self._refused)
        if handler is None:  # no such method: grpc answers UNIMPLEMENTED
            return None  # type: ignore[return-value]  # the stub forgets it
        behaviour: Any = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        return _HANDLER_OF[handler.response_streaming](
            _guarded(
                behaviour,
                method,
                self._translate,
                request_streaming=handler.request_streaming,
                streams=self._public_streams if handler.response_streaming and is_public(method) else None,
            ),
            _tolerant(handler.request_deserializer),
            handler.response_serializer,
        )


def _guarded(
    behaviour: _Behaviour,
    method: str,
    translate: Translate,
    *,
    request_streaming: bool,
    streams: OpenStreams | None,
) -> _Behaviour:
    async def answered(requests: AsyncIterator[Any], context: ServicerContext) -> Any:
        request = _each_decoded(requests, method) if request_streaming else await _only(requests, method)
        answer = behaviour(request, context)
        if not isasyncgen(answer):
            return await answer
        async with aclosing(answer):  # so that it is finished, not forgotten, when the client leaves
            async for message in answer:
                await context.write(message)
        return None

    async def call(requests: AsyncIterator[Any], context: ServicerContext) -> Any:
        try:
            with streams.one_of(context.peer()) if streams is not None else nullcontext():
                return await answered(requests, context)
        except aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, translate(error), method)

    return call


def _tolerant(deserializer: _Deserializer | None) -> _Deserializer | None:
    """Return a deserializer that does not raise: grpc would answer UNKNOWN and log a traceback, as if we had failed."""
    if deserializer is None:
        return None

    def deserialize(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError:
            descriptor = getattr(getattr(deserializer, "__self__", None), "DESCRIPTOR", None)
            return _Undecodable(nested_too_deeply(data, descriptor) if descriptor is not None else None)

    return deserialize


async def _only(requests: AsyncIterator[Any], method: str) -> Any:
    """Return the one request of a call."""
    async for request in requests:
        return _decoded(request, method)
    raise InvalidArgumentError(
        message=f"the call ended without a request; send the message that {method} takes"
    )


async def _each_decoded(requests: AsyncIterator[Any], method: str) -> AsyncIterator[Any]:
    """Yield the requests that a servicer may see."""
    async for request in requests:
        yield _decoded(request, method)


def _decoded(request: Any, method: str) -> Any:
    """Return a request that could be decoded."""
    if not isinstance(request, _Undecodable):
        return request
    if request.path is not None:
        raise InvalidArgumentError.of(
            request.path,
            f"is nested deeper than a message can be, which is {DEEPEST_MESSAGE} levels, three for each of JSON; send "
            "it flat, or as JSON text where the request has a field for that",
        )
    raise InvalidArgumentError(
        message=f"the request is not the message that {method} takes; "
        "generate the client from the .proto files of tasker.v1, or ask this server's reflection"
    )


def _refusing(error: Exception, method: str, refused: Refused) -> _Handler:
    """Return a handler for a call that an interceptor refused; it reads nothing, so it suits every shape."""

    async def call(request: Any, context: ServicerContext) -> None:
        refused(error, method, context.peer())
        await _abort(context, error, method)

    return grpc.stream_stream_rpc_method_handler(call)


async def _abort(context: ServicerContext, error: Exception, method: str) -> None:
    status = status_of(error, method=method)
    # abort() replaces the trailers set so far unless it is given them.
    trailers = (*context.trailing_metadata(), *status.trailers)
    await context.abort(status.code, status.message, trailers)
