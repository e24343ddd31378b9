"""A service as a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from grpc import aio
from grpc_health.v1 import health_pb2

from tests.support.clients import Client
from tests.support.commands import Forked
from tests.support.waiting import PATIENCE_SECONDS, until


class ServiceProcess:
    """A service as a process of its own, on a Unix socket, which keeps its address over restarts.

    Args:
        kind: `orchestration` or `worker`.
        folder: For its socket and its log; the path must be short.
        environment: Its settings.
    """

    def __init__(self, kind: str, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.address = f"unix:{folder / name}.sock"
        self.log = folder / f"{name}.log"
        self._kind = kind
        address = "WORKER" if kind == "worker" else "ORCHESTRATION"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("TASKER_")},
            "TASKER_LOG_FORMAT": "json",
            f"TASKER_{address}_GRPC_BIND_ADDRESS": self.address,
            **environment,
        }
        self._process: Forked | None = None

    async def start(self) -> None:
        """Start it; it becomes ready by and by."""
        self._process = await Forked.start_logged(self._kind, log=self.log, environment=self._environment)

    async def ready(self) -> None:
        """Wait until it says so."""
        async with Client(self.address) as client:
            request = health_pb2.HealthCheckRequest()

            async def is_serving() -> bool:
                assert self.is_running, f"{self.name} ended: {self.tail()}"
                try:
                    answer = await client.probes.Check(request, timeout=5, wait_for_ready=True)
                except aio.AioRpcError:
                    return False
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            await until(is_serving, what=f"{self.name} ready: {self.tail()}")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def resident_bytes(self) -> int:
        """How much memory it has."""
        assert self._process is not None
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def kill(self) -> None:
        """End it without a word."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """Ask it to drain, and return its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await asyncio.wait_for(self._process.wait(), PATIENCE_SECONDS)

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""


async def stop_all(services: Iterable[ServiceProcess]) -> None:
    """Kill the processes that still run."""
    await asyncio.gather(*(service.kill() for service in services if service.is_running))
