"""The orchestration process: an orchestrator behind a gRPC server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tasker.config.settings import OrchestrationSettings
from tasker.orchestration.engine.orchestrator import Orchestrator
from tasker.orchestration.services.analytics_service import AnalyticsService
from tasker.orchestration.services.batch_service import BatchService
from tasker.orchestration.services.config_service import ConfigService
from tasker.orchestration.services.dlq_service import DlqService
from tasker.orchestration.services.health_service import HealthService
from tasker.orchestration.services.operations_service import OperationsService
from tasker.orchestration.services.paging import PageTokens
from tasker.orchestration.services.step_service import StepService
from tasker.orchestration.services.task_service import TaskService
from tasker.orchestration.services.template_admin_service import TemplateAdminService
from tasker.orchestration.services.template_service import TemplateService
from tasker.orchestration.services.watch_service import WatchService
from tasker.persistence.failures import as_unavailable
from tasker.persistence.probe import DatabaseProbe
from tasker.persistence.reading.audit import AuditReader
from tasker.persistence.reading.dlq import DlqReader
from tasker.persistence.reading.listing import TaskListing
from tasker.persistence.reading.secrets import page_token_key
from tasker.persistence.reading.staleness import StalenessReader
from tasker.persistence.reading.summaries import SummaryReader
from tasker.persistence.reading.templates import TemplateReader
from tasker.rpc.readiness import Readiness
from tasker.rpc.security import Security, security_of
from tasker.rpc.server import ORCHESTRATION_OPTIONS, RpcServer, ServiceRegistration, build_server
from tasker.rpc.streams import OpenStreams
from tasker.telemetry.logs import get_logger
from tasker.telemetry.loop_watch import LoopWatch
from tasker.v1 import (
    analytics_pb2,
    analytics_pb2_grpc,
    batch_pb2,
    batch_pb2_grpc,
    config_pb2,
    config_pb2_grpc,
    dlq_pb2,
    dlq_pb2_grpc,
    health_pb2,
    health_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    steps_pb2,
    steps_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
    template_admin_pb2,
    template_admin_pb2_grpc,
    templates_pb2,
    templates_pb2_grpc,
    watch_pb2,
    watch_pb2_grpc,
)

log = get_logger(__name__)


class OrchestrationService:
    """Starts and stops everything of the process in order.

    Attributes:
        address: Where clients reach it, once started.
    """

    def __init__(self, settings: OrchestrationSettings) -> None:
        self._settings = settings
        self._orchestrator = Orchestrator(settings)
        self._tokens = PageTokens()
        self._streams = OpenStreams(at_most=settings.max_open_streams)
        self.address = settings.bind_address
        self._loop_watch = LoopWatch(longest_seconds=settings.loop_blocked_seconds)

    async def start(self) -> None:
        """Bind first, since that is what fails most; then connect, then answer.

        Raises:
            BindError: The address is taken.
            KeyFileError: A file of keys or of the certificate cannot be used.
            KeySetError: The URL of the key set is not one to fetch it from.
            psycopg.OperationalError: The database does not answer.
            SchemaVersionError: Its schema does not fit.
        """
        self._probe = DatabaseProbe(
            self._orchestrator.database, self._orchestrator.listener, on_change=self._look
        )
        self._readiness = Readiness(lambda: self._probe.problem)
        security = security_of(self._settings)
        self._server: RpcServer = build_server(
            self._settings.bind_address,
            services=self._registrations(security),
            options=replace(ORCHESTRATION_OPTIONS, enable_reflection=self._settings.reflection_enabled),
            translate=as_unavailable,
            security=security,
        )
        self._readiness.report_to(self._server.health)
        self._server.health.refresh_by(self._probe.refresh)
        self.address = self._server.address
        try:
            await self._orchestrator.start()
            self._tokens.key = await page_token_key(self._orchestrator.database)
            await self._server.start()
            self._loop_watch.start()
            await self._probe.start()
        except BaseException:
            await self._stop_all(grace_seconds=0)
            raise
        log.info("orchestration_started", address=self.address)

    async def stop(self) -> None:
        """Refuse new calls, finish those at hand, stop the loops, disconnect.

        Raises:
            TimeoutError: A call or a loop went on for longer than the shutdown timeout.
        """
        log.info("orchestration_stopping")
        async with asyncio.timeout(self._settings.shutdown_timeout_seconds):
            await self._stop_all(grace_seconds=self._settings.shutdown_timeout_seconds)
        log.info("orchestration_stopped")

    async def _stop_all(self, *, grace_seconds: float) -> None:
        await self._readiness.stopping()
        await self._orchestrator.watching.stop()
        await self._server.stop(grace_seconds)
        self._loop_watch.stop()
        await self._probe.stop()
        await self._orchestrator.stop()
        self._readiness.stopped()

    async def _look(self, _: bool) -> None:
        await self._readiness.update()

    def _registrations(self, security: Security) -> list[ServiceRegistration[Any]]:
        engine = self._orchestrator
        return [
            ServiceRegistration(
                tasks_pb2.DESCRIPTOR.services_by_name["TaskService"],
                TaskService(
                    engine.creator,
                    engine.reader,
                    TaskListing(engine.database),
                    SummaryReader(engine.database),
                    engine.operators,
                    engine.task_watch,
                    self._streams,
                    engine.backpressure,
                    self._tokens,
                ),
                tasks_pb2_grpc.add_TaskServiceServicer_to_server,
            ),
            ServiceRegistration(
                watch_pb2.DESCRIPTOR.services_by_name["WatchService"],
                WatchService(engine.feed_watch, self._streams),
                watch_pb2_grpc.add_WatchServiceServicer_to_server,
            ),
            ServiceRegistration(
                steps_pb2.DESCRIPTOR.services_by_name["StepService"],
                StepService(engine.reader, AuditReader(engine.database), engine.operators, self._tokens),
                steps_pb2_grpc.add_StepServiceServicer_to_server,
            ),
            ServiceRegistration(
                templates_pb2.DESCRIPTOR.services_by_name["TemplateService"],
                TemplateService(TemplateReader(engine.database), self._tokens),
                templates_pb2_grpc.add_TemplateServiceServicer_to_server,
            ),
            ServiceRegistration(
                analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"],
                AnalyticsService(engine.analytics),
                analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server,
            ),
            ServiceRegistration(
                dlq_pb2.DESCRIPTOR.services_by_name["DlqService"],
                DlqService(
                    engine.dlq,
                    DlqReader(engine.database),
                    StalenessReader(engine.database),
                    engine.reader,
                    limits=self._settings.staleness_limits,
                    tokens=self._tokens,
                ),
                dlq_pb2_grpc.add_DlqServiceServicer_to_server,
            ),
            ServiceRegistration(
                config_pb2.DESCRIPTOR.services_by_name["ConfigService"],
                ConfigService(self._settings, engine.database, security),
                config_pb2_grpc.add_ConfigServiceServicer_to_server,
            ),
            ServiceRegistration(
                batch_pb2.DESCRIPTOR.services_by_name["BatchService"],
                BatchService(engine.groups, engine.backpressure),
                batch_pb2_grpc.add_BatchServiceServicer_to_server,
            ),
            ServiceRegistration(
                template_admin_pb2.DESCRIPTOR.services_by_name["TemplateAdminService"],
                TemplateAdminService(engine.versions, self._tokens),
                template_admin_pb2_grpc.add_TemplateAdminServiceServicer_to_server,
            ),
            ServiceRegistration(
                operations_pb2.DESCRIPTOR.services_by_name["OperationsService"],
                OperationsService(
                    engine.namespaces,
                    engine.operators,
                    engine.dlq,
                    engine.poison,
                    engine.reader,
                    self._tokens,
                ),
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
            ),
            ServiceRegistration(
                health_pb2.DESCRIPTOR.services_by_name["HealthService"],
                HealthService(
                    engine,
                    self._probe,
                    self._readiness,
                    self._loop_watch,
                    environment=self._settings.environment,
                ),
                health_pb2_grpc.add_HealthServiceServicer_to_server,
            ),
        ]
