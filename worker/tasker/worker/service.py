"""The worker process: a worker behind a gRPC server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tasker.config.settings import WorkerSettings
from tasker.persistence.failures import as_unavailable
from tasker.persistence.probe import DatabaseProbe
from tasker.rpc.readiness import Readiness
from tasker.rpc.security import Security, security_of
from tasker.rpc.server import WORKER_OPTIONS, RpcServer, ServiceRegistration, build_server
from tasker.telemetry.logs import get_logger
from tasker.telemetry.loop_watch import LoopWatch
from tasker.v1 import worker_pb2, worker_pb2_grpc
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.handlers.threads import HandlerThreads
from tasker.worker.runtime.worker import Worker
from tasker.worker.services.config_service import WorkerConfigService
from tasker.worker.services.health_service import WorkerHealthService
from tasker.worker.services.template_service import WorkerTemplateService

log = get_logger(__name__)


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
        self._loop_watch = LoopWatch(longest_seconds=settings.loop_blocked_seconds)

    async def start(self) -> None:
        """Bind first, since that is what fails most; then connect, register, claim and answer.

        Raises:
            BindError: The address is taken.
            KeyFileError: A file of keys or of the certificate cannot be used.
            KeySetError: The URL of the key set is not one to fetch it from.
            psycopg.OperationalError: The database does not answer.
            SchemaVersionError: Its schema does not fit.
            TemplateDirectoryError: The template directory does not exist.
        """
        self._probe = DatabaseProbe(self.worker.database, self.worker.listener, on_change=self._look)
        self._readiness = Readiness(lambda: self._probe.problem, lambda: self.worker.problem)
        security = security_of(self._settings)
        self._server: RpcServer = build_server(
            self._settings.bind_address,
            services=self._registrations(security),
            options=replace(WORKER_OPTIONS, enable_reflection=self._settings.reflection_enabled),
            translate=as_unavailable,
            security=security,
        )
        self._readiness.report_to(self._server.health)
        self._server.health.refresh_by(self._refresh)
        self.worker.on_change = self._readiness.update_soon
        self.address = self._server.address
        # `asyncio.to_thread` of so many handlers at once; by default it has a few threads for all of them.
        threads = HandlerThreads(self._settings.slots, thread_name_prefix="to_thread")
        asyncio.get_running_loop().set_default_executor(threads)
        try:
            await self.worker.start()
        except BaseException:
            await self._server.stop(0)
            raise
        try:
            await self._server.start()
            self._loop_watch.start()
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
        await self._readiness.stopping()
        try:
            await self.worker.stop()
        finally:
            self._loop_watch.stop()
            await self._probe.stop()
            await self._server.stop(1)
            self._readiness.stopped()
        log.info("worker_stopped")

    async def _look(self, _: bool) -> None:
        await self._readiness.update()

    async def _refresh(self) -> None:
        await self._probe.refresh()
        await self._readiness.update()

    def _registrations(self, security: Security) -> list[ServiceRegistration[Any]]:
        services = worker_pb2.DESCRIPTOR.services_by_name
        return [
            ServiceRegistration(
                services["WorkerHealthService"],
                WorkerHealthService(
                    self.worker,
                    self._probe,
                    self._readiness,
                    self._loop_watch,
                    environment=self._settings.environment,
                ),
                worker_pb2_grpc.add_WorkerHealthServiceServicer_to_server,
            ),
            ServiceRegistration(
                services["WorkerConfigService"],
                WorkerConfigService(self._settings, self.worker, security),
                worker_pb2_grpc.add_WorkerConfigServiceServicer_to_server,
            ),
            ServiceRegistration(
                services["WorkerTemplateService"],
                WorkerTemplateService(self.worker),
                worker_pb2_grpc.add_WorkerTemplateServiceServicer_to_server,
            ),
        ]
