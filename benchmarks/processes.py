"""The services of a benchmark, each in a process of its own, on an embedded PostgreSQL with fsync on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc
from psycopg import sql

from tasker.persistence.embedded import embedded_server

_FOLDER = Path(__file__).parent


#: The checkout that these services are of, and the Python that runs them.
_THIS: Final = Path(sys.executable)


@contextmanager
def fresh_database(data_folder: Path, *, name: str = "bench", python: Path = _THIS) -> Iterator[str]:
    """Yield the URL of a migrated database that nobody has used.

    Args:
        data_folder: Of the server, which databases on the same folder share.
        name: Of the database.
        python: Of the checkout whose schema it gets.
    """
    with embedded_server(data_folder) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        database_url = url.replace("/tasker?", f"/{name}?")
        subprocess.run(
            [python, "-m", "tasker.ctl.main", "migrate"],
            env=os.environ | {"DATABASE_URL": database_url},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        yield database_url


@asynccontextmanager
async def orchestration(database_url: str, *, python: Path = _THIS) -> AsyncIterator[str]:
    """Run an orchestrator; yield its address."""
    async with service("orchestration", database_url, python=python) as running:
        yield running.address


@asynccontextmanager
async def worker(database_url: str, *, python: Path = _THIS) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a worker with the benchmark's templates and handlers; yield its process."""
    async with service("worker", database_url, python=python) as running:
        yield running.process


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs, and where it listens."""

    address: str
    process: subprocess.Popen[bytes]


@asynccontextmanager
async def service(
    name: str,
    database_url: str,
    *,
    python: Path = _THIS,
    templates: Path = _FOLDER / "templates",
    handlers: Path = _FOLDER / "handlers.py",
    log: Path | None = None,
) -> AsyncIterator[Service]:
    """Run a service as a process of its own.

    Args:
        name: `orchestration` or `worker`.
        database_url: Of its database.
        python: Of the checkout that it is of.
        templates: What a worker registers.
        handlers: What a worker runs.
        log: Where it writes what it has to say; beside our own by default.
    """
    address = free_address()
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "TASKER_LOG_LEVEL": "warning",
        f"TASKER_{name.upper()}_GRPC_BIND_ADDRESS": address,
        "TASKER_TEMPLATE_PATH": str(templates),
        "PYTHON_HANDLER_PATH": str(handlers),
    }
    with log.open("ab") if log else nullcontext() as said:
        process = subprocess.Popen(  # noqa: ASYNC220
            [python, "-m", "tasker.ctl.main", name], env=environment, stdout=said, stderr=said
        )
    try:
        await ready(address)
        yield Service(address, process)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)


async def ready(address: str) -> None:
    """Return when the service at an address serves."""
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(30):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="")
        async for answer in stub.Watch(request, wait_for_ready=True):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


def free_address() -> str:
    """Return an address that nobody has: two services may share a port, and share the calls to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
