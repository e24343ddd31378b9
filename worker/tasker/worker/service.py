"""The worker process: a worker behind a gRPC server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from tasker.config.settings import WorkerSettings
from tasker.persistence.failures import as_unavailable
from tasker.persistence.probe import DatabaseProbe
from tasker.rpc.server import WORKER_OPTIONS, RpcServer, ServiceRegistration, build_server
from tasker.v1 import worker_pb2, worker_pb2_grpc
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.runtime.worker import Worker
from tasker.worker.services.config_service import WorkerConfigService
from tasker.worker.services.health_service import WorkerHealthService
from tasker.worker.services.template_service import WorkerTemplateService

log = structlog.get_logger(__name__)


class WorkerService:
    """Starts and stops everything of the process in order.

    Attributes:
        address: Where probes reach it, once started.
        worker: What it runs.
    """

    def __init__(self, settings: WorkerSettings, registry: HandlerRegistry) -> None:
        self._settings = settings
        self.worker = Worker(settings, registry)
        self.address = settings.bind_address
        self._stopping = False

    async def start(self) -> None:
        """Bind first, since that is what fails most; then connect, register, claim and answer.

        Raises:
            BindError: The address is taken.
            psycopg.OperationalError: The database does not answer.
            SchemaVersionError: Its schema does not fit.
            TemplateDirectoryError: The template directory does not exist.
        """
        self._probe = DatabaseProbe(self.worker.database, self.worker.listener, on_change=self._set_ready)
        self._server: RpcServer = build_server(
            self._settings.bind_address,
            services=self._registrations(),
            options=WORKER_OPTIONS,
            translate=as_unavailable,
        )
        self._server.health.refresh_by(self._probe.refresh)
        self.address = self._server.address
        # `asyncio.to_thread` of so many handlers at once; by default it has a few threads for all of them.
        threads = ThreadPoolExecutor(self._settings.slots, thread_name_prefix="to_thread")
        asyncio.get_running_loop().set_default_executor(threads)
        try:
            await self.worker.start()
        except BaseException:
            await self._server.stop(0)
            raise
        try:
            await self._server.start()
            await self._probe.start()
        except BaseException:
            await self.stop()  # steps may run already
            raise
        log.info("worker_started", address=self.address, namespaces=self.worker.namespaces)

    async def stop(self) -> None:
        """Claim no more, finish and record what runs, then stop answering.

        Raises:
            TimeoutError: Handlers went on for longer than the shutdown timeout.
        """
        log.info("worker_stopping")
        self._stopping = True
        await self._server.health.set_ready(False)
        try:
            await self.worker.stop()
        finally:
            await self._probe.stop()
            await self._server.stop(1)
        log.info("worker_stopped")

    async def _set_ready(self, ready: bool) -> None:
        await self._server.health.set_ready(ready and not self._stopping)

    def _registrations(self) -> list[ServiceRegistration[Any]]:
        services = worker_pb2.DESCRIPTOR.services_by_name
        return [
            ServiceRegistration(
                services["WorkerHealthService"],
                WorkerHealthService(self.worker, self._probe, environment=self._settings.environment),
                worker_pb2_grpc.add_WorkerHealthServiceServicer_to_server,
            ),
            ServiceRegistration(
                services["WorkerConfigService"],
                WorkerConfigService(self._settings, self.worker),
                worker_pb2_grpc.add_WorkerConfigServiceServicer_to_server,
            ),
            ServiceRegistration(
                services["WorkerTemplateService"],
                WorkerTemplateService(self.worker),
                worker_pb2_grpc.add_WorkerTemplateServiceServicer_to_server,
            ),
        ]
