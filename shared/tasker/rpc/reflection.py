"""Server reflection in both published versions, so that every version of grpcurl and its kin works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

from tasker.domain.errors import InvalidArgumentError
from tasker.rpc.interceptor import ServicerContext

_V1ALPHA: Final = "grpc.reflection.v1alpha"
_V1: Final = "grpc.reflection.v1"
#: An answer repeats its question, and must stay readable; no name of a symbol or file comes near this.
_QUESTION_BYTES: Final = 4096
_SERVICES: Final = (f"{_V1}.ServerReflection", f"{_V1ALPHA}.ServerReflection")


def add_reflection(server: aio.Server, service_names: Iterable[str]) -> None:
    """Register reflection for the given services and itself.

    Args:
        server: The server, before it starts.
        service_names: Full names of services whose modules are imported.

    Raises:
        KeyError: A name belongs to no imported module.
    """
    names = (*service_names, *_SERVICES)
    servicer = reflection.aio.ReflectionServicer(names, pool=_pool(names))  # type: ignore[attr-defined]  # missing in the stub

    async def answers(
        questions: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: ServicerContext
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        async for answer in servicer.ServerReflectionInfo(_short(questions), context):
            yield answer

    handler = grpc.stream_stream_rpc_method_handler(
        answers,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    # The messages of the two versions are the same byte for byte, so one handler serves both.
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}) for name in _SERVICES]
    )


async def _short(
    questions: AsyncIterator[reflection_pb2.ServerReflectionRequest],
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    async for question in questions:
        if question.ByteSize() > _QUESTION_BYTES:
            raise InvalidArgumentError(
                message=f"a question has {question.ByteSize()} bytes, more than {_QUESTION_BYTES}; "
                "ask for one symbol or one file by its name"
            )
        yield question


class _Pool:
    """A pool that finds the file of a method by the method's name, too, which a `DescriptorPool` does not."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - what the servicer calls
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def _pool(service_names: Iterable[str]) -> _Pool:
    """Return the files of the services with all they import, and nothing else this process has loaded."""
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name not in added:
            added.add(file.name)
            for dependency in file.dependencies:
                add(dependency)
            pool.AddSerializedFile(file.serialized_pb)

    pool.AddSerializedFile(_v1_file())
    for name in service_names:
        if not name.startswith(_V1 + "."):
            add(descriptor_pool.Default().FindServiceByName(name).file)
    add(error_details_pb2.DESCRIPTOR)  # clients look up the types of the details our statuses carry
    return _Pool(pool)


def _v1_file() -> bytes:
    """Return the file of v1, which the package does not bring, made from the one of v1alpha."""
    file = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    text = text_format.MessageToString(file).replace(_V1ALPHA, _V1)
    return text_format.Parse(text.replace("/v1alpha/", "/v1/"), FileDescriptorProto()).SerializeToString()
