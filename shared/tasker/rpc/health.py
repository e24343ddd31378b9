"""Health for probes: grpc.health.v1, told apart into readiness and liveness."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

HEALTH_SERVICE: Final = health.SERVICE_NAME
#: The server as a whole.
OVERALL: Final = ""
#: SERVING for as long as the process can answer, ready or not.
LIVENESS: Final = "liveness"


#: How long a stream may take to pass on its last status.
_LAST_WORD_SECONDS: Final = 0.1


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc, name-defined]  # missing in the stub
    """Ends its streams when told to: a draining server would wait for them as long as for any call."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.ending = asyncio.Event()
        self._look = look
        self._statuses: dict[str, health_pb2.HealthCheckResponse] = {}

    async def set(self, service: str, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        """Set the status of one name."""
        self._statuses[service] = health_pb2.HealthCheckResponse(status=status)
        await super().set(service, status)

    async def Check(  # noqa: N802 - its name in the contract
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """Answer the status of one name."""
        if request.service != LIVENESS:
            await self._look()
        return await super().Check(request, context)

    async def List(  # noqa: N802 - its name in the contract
        self, request: health_pb2.HealthListRequest, context: Any
    ) -> health_pb2.HealthListResponse:
        """Answer the status of every name."""
        await self._look()
        return health_pb2.HealthListResponse(statuses=self._statuses)

    async def Watch(  # noqa: N802 - its name in the contract
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> None:
        """Stream the status of one name."""
        watching = asyncio.create_task(super().Watch(request, context))
        ending = asyncio.create_task(self.ending.wait())
        try:
            await asyncio.wait((watching, ending), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((watching,), timeout=_LAST_WORD_SECONDS)
        finally:
            watching.cancel()
            ending.cancel()


class HealthReporter:
    """Answers grpc.health.v1 for a server: not ready until told so.

    Every name but `liveness` follows readiness: "" and the full name of each service of the server, among
    them `tasker.v1.HealthService` or `tasker.v1.WorkerHealthService`. Check answers NOT_FOUND for others;
    Watch reports them as SERVICE_UNKNOWN, as the protocol has it.
    """

    def __init__(self, service_names: Iterable[str]) -> None:
        self._names = (OVERALL, *service_names)
        self._servicer = _Servicer(self._look)
        self._refresh: Callable[[], Awaitable[None]] | None = None
        self._ready = False

    @property
    def ready(self) -> bool:
        """What set_ready was last told."""
        return self._ready

    def refresh_by(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Have Check call this first, while ready: it may find that we are not, and say so by `set_ready`."""
        self._refresh = refresh

    async def set_ready(self, ready: bool) -> None:
        """Tell probes and watchers; not ready also means starting up or draining."""
        self._ready = ready
        await self.publish()

    async def publish(self) -> None:
        """Make the names known to the servicer; the server does so before it starts."""
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._servicer.set(name, status.SERVING if self._ready else status.NOT_SERVING)
        await self._servicer.set(LIVENESS, status.SERVING)

    async def _look(self) -> None:
        if self._ready and self._refresh is not None:
            await self._refresh()

    def end_watches(self) -> None:
        """End the streams of watchers, who have been told the last status."""
        self._servicer.ending.set()

    def add_to(self, server: aio.Server) -> None:
        """Register the service."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
