"""A grpc.aio server with our transport options, errors, health and reflection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc import aio

from tasker.forks import use_grpc
from tasker.rpc.authentication import AuthenticationInterceptor
from tasker.rpc.health import HEALTH_SERVICE, HealthReporter
from tasker.rpc.interceptor import ErrorInterceptor, Translate
from tasker.rpc.reflection import add_reflection
from tasker.rpc.security import OPEN, Security, warn_if_exposed
from tasker.rpc.streams import MOST_STREAMS_OF_CONNECTION

if TYPE_CHECKING:
    from tasker.rpc.tls import TlsFiles

Servicer = TypeVar("Servicer")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Transport of one server.

    Attributes:
        max_concurrent_streams: Calls in flight per connection; more wait at the client.
        max_concurrent_calls: Calls in flight on all connections; more end with RESOURCE_EXHAUSTED.
        max_request_bytes: A larger message ends its call with RESOURCE_EXHAUSTED. Replies are not limited
            here: clients set what they take.
        keepalive_interval_seconds: How often a connection is pinged, with calls or without.
        keepalive_timeout_seconds: How long a ping may stay unanswered before the connection is closed.
        min_ping_interval_seconds: Clients that ping more often on a silent connection are sent away. Below
            one second, because clients that ping each second exist; the default of grpc is five minutes.
        enable_health: Serve grpc.health.v1.
        enable_reflection: Serve reflection, v1 and v1alpha.
    """

    max_concurrent_streams: int = 200
    max_concurrent_calls: int = 10_000
    max_request_bytes: int = 4 * 1024 * 1024
    keepalive_interval_seconds: float = 30
    keepalive_timeout_seconds: float = 20
    min_ping_interval_seconds: float = 0.5
    enable_health: bool = True
    enable_reflection: bool = True

    def channel_arguments(self) -> list[tuple[str, int]]:
        """Return the options as grpc names them."""
        return [
            ("grpc.so_reuseport", 0),  # or two processes would share a port and each see half of the calls
            ("grpc.max_concurrent_streams", self.max_concurrent_streams),
            # Whatever a burst brings is taken, and what is too much of it refused with a word: grpc itself would reset
            # streams that came before it had forgotten those that are over, and cancel calls that nobody has begun to
            # answer, at random from 1000 on and all of them after 30 s.
            ("grpc.http.overload_protection", 0),
            ("grpc.server.max_pending_requests", 2 * self.max_concurrent_calls),
            ("grpc.server.max_pending_requests_hard_limit", 10 * self.max_concurrent_calls),
            ("grpc.server_max_unrequested_time_in_server", 3600),
            ("grpc.max_receive_message_length", self.max_request_bytes),
            ("grpc.keepalive_time_ms", round(self.keepalive_interval_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_seconds * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", round(self.min_ping_interval_seconds * 1000)),
        ]


#: More than a connection may have streams open, so that its other calls never wait behind them without a word.
ORCHESTRATION_OPTIONS: Final = ServerOptions(max_concurrent_streams=MOST_STREAMS_OF_CONNECTION + 200)
WORKER_OPTIONS: Final = ServerOptions(max_concurrent_streams=1000)


@dataclass(frozen=True, slots=True)
class ServiceRegistration(Generic[Servicer]):
    """A service to serve: `ServiceRegistration(descriptor, servicer, add_XServicer_to_server)`.

    Attributes:
        descriptor: `x_pb2.DESCRIPTOR.services_by_name["XService"]`; names it to health and reflection.
        servicer: What answers its calls.
        add_to_server: The generated function that joins the two.
    """

    descriptor: ServiceDescriptor
    servicer: Servicer
    add_to_server: Callable[[Servicer, aio.Server], None]


class BindError(Exception):
    """The server cannot listen on the address it was given."""

    def __init__(self, bind_address: str) -> None:
        self.bind_address = bind_address
        super().__init__(
            f"cannot listen on {bind_address}: the port is in use, or the address is malformed or not one of "
            "this machine's; stop what listens there, or set another one"
        )


class RpcServer:
    """A bound server. Start it, report readiness through `health`, stop it; `async with` does first and last.

    Attributes:
        address: Where it listens, with the port that was bound; a channel takes it as target.
        port: The port that was bound; 0 for a Unix socket.
        health: What probes are told. Not ready until `health.set_ready(True)`.
    """

    def __init__(
        self, server: aio.Server, health: HealthReporter, security: Security, *, address: str, port: int
    ) -> None:
        self._server = server
        self._security = security
        self.health = health
        self.address = address
        self.port = port

    async def start(self) -> None:
        """Begin to answer calls."""
        use_grpc()
        await self.health.publish()
        if self._security.authenticator is not None:
            await self._security.authenticator.start()
        warn_if_exposed(self.address, self._security)
        await self._server.start()

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Report not ready, refuse new calls, and let calls in flight go on for the grace period."""
        await self.health.set_ready(False)
        self.health.end_watches()
        await self._server.stop(grace_seconds)
        if self._security.authenticator is not None:
            await self._security.authenticator.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def build_server(
    bind_address: str,
    *,
    services: Sequence[ServiceRegistration[Any]],
    options: ServerOptions = ORCHESTRATION_OPTIONS,
    interceptors: Sequence[aio.ServerInterceptor[Any, Any]] = (),
    translate: Translate = lambda error: error,
    security: Security = OPEN,
) -> RpcServer:
    """Return a server bound to an address and not started yet; needs a running event loop.

    Args:
        bind_address: `host:port`, port 0 for any free one, or `unix:/path`.
        services: What to serve, besides health and reflection.
        options: Transport.
        interceptors: Outermost first. They may raise like servicers: the error table lies around them.
        translate: Turns errors of other libraries into ones of the table.
        security: Who is let in, and the certificate.

    Raises:
        BindError: The address cannot be listened on.
        KeyFileError: A file of the certificate cannot be used.
    """
    outermost: list[aio.ServerInterceptor[Any, Any]] = [ErrorInterceptor(translate)]
    if (authenticator := security.authenticator) is not None:
        outermost = [
            ErrorInterceptor(translate, refused=authenticator.log_refusal),
            AuthenticationInterceptor(authenticator),
        ]
    server = aio.server(
        interceptors=[*outermost, *interceptors],
        options=options.channel_arguments(),
        maximum_concurrent_rpcs=options.max_concurrent_calls,
    )
    names = [service.descriptor.full_name for service in services]
    reporter = HealthReporter(names)
    for service in services:
        service.add_to_server(service.servicer, server)
    if options.enable_health:
        reporter.add_to(server)
        names.append(HEALTH_SERVICE)
    if options.enable_reflection:
        add_reflection(server, names)
    address, port = _bind(server, bind_address, security.tls)
    return RpcServer(server, reporter, security, address=address, port=port)


def _bind(server: aio.Server, bind_address: str, tls: TlsFiles | None) -> tuple[str, int]:
    is_socket = bind_address.startswith(("unix:", "unix-abstract:"))
    host, _, port = bind_address.rpartition(":")
    # grpc would take a port modulo 65536, and 443 when there is none.
    if not is_socket and not (port.isdecimal() and int(port) < 65536):
        raise BindError(bind_address)
    credentials = _credentials(tls) if tls is not None else None
    try:
        if credentials is not None:
            bound = server.add_secure_port(bind_address, credentials)
        else:
            bound = server.add_insecure_port(bind_address)
    except RuntimeError:  # grpc says no more than that it failed
        raise BindError(bind_address) from None
    return (bind_address, 0) if is_socket else (f"{host}:{bound}", bound)


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    # Imported here: it stands on a library that a server without a certificate does not need.
    from tasker.rpc.tls import server_credentials

    return server_credentials(tls)
