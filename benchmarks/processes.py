"""The services of a benchmark, each in a process of its own, on an embedded PostgreSQL with fsync on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tasker.persistence.embedded import embedded_server
from tasker.persistence.migrations import migrate

_FOLDER = Path(__file__).parent


@contextmanager
def fresh_database(data_folder: Path) -> Iterator[str]:
    """Yield the URL of a migrated database that nobody has used."""
    with embedded_server(data_folder) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
            connection.execute("CREATE DATABASE bench")
        database_url = url.replace("/tasker?", "/bench?")
        migrate(database_url)
        yield database_url


@asynccontextmanager
async def orchestration(database_url: str, port: int) -> AsyncIterator[str]:
    """Run an orchestrator; yield its address."""
    address = f"127.0.0.1:{port}"
    async with _process(
        ["orchestration"], address, database_url, TASKER_ORCHESTRATION_GRPC_BIND_ADDRESS=address
    ):
        yield address


@asynccontextmanager
async def worker(database_url: str, port: int) -> AsyncIterator[None]:
    """Run a worker with the benchmark's template and handler."""
    address = f"127.0.0.1:{port}"
    async with _process(
        ["worker"],
        address,
        database_url,
        TASKER_WORKER_GRPC_BIND_ADDRESS=address,
        TASKER_TEMPLATE_PATH=str(_FOLDER / "templates"),
        PYTHON_HANDLER_PATH=str(_FOLDER / "handlers.py"),
    ):
        yield


@asynccontextmanager
async def _process(
    command: list[str], address: str, database_url: str, **settings: str
) -> AsyncIterator[None]:
    environment = os.environ | {"DATABASE_URL": database_url, "TASKER_LOG_LEVEL": "warning"} | settings
    process = subprocess.Popen([sys.executable, "-m", "tasker.ctl.main", *command], env=environment)  # noqa: ASYNC220
    try:
        await ready(address)
        yield
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
