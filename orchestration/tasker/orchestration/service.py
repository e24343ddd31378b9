"""The orchestration process: an orchestrator behind a gRPC server."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

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
from tasker.persistence.failures import as_unavailable
from tasker.persistence.probe import DatabaseProbe
from tasker.persistence.reading.audit import AuditReader
from tasker.persistence.reading.dlq import DlqReader
from tasker.persistence.reading.listing import TaskListing
from tasker.persistence.reading.secrets import page_token_key
from tasker.persistence.reading.staleness import StalenessReader
from tasker.persistence.reading.summaries import SummaryReader
from tasker.persistence.reading.templates import TemplateReader
from tasker.rpc.server import ORCHESTRATION_OPTIONS, RpcServer, ServiceRegistration, build_server
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
)

log = structlog.get_logger(__name__)


class OrchestrationService:
    """Starts and stops everything of the process in order.

    Attributes:
        address: Where clients reach it, once started.
    """

    def __init__(self, settings: OrchestrationSettings) -> None:
        self._settings = settings
        self._orchestrator = Orchestrator(settings)
        self._tokens = PageTokens()
        self.address = settings.bind_address
        self._stopping = False

    async def start(self) -> None:
        """Bind first, since that is what fails most; then connect, then answer.

        Raises:
            BindError: The address is taken.
            psycopg.OperationalError: The database does not answer.
            SchemaVersionError: Its schema does not fit.
        """
        self._probe = DatabaseProbe(
            self._orchestrator.database, self._orchestrator.listener, on_change=self._set_ready
        )
        self._server: RpcServer = build_server(
            self._settings.bind_address,
            services=self._registrations(),
            options=ORCHESTRATION_OPTIONS,
            translate=as_unavailable,
        )
        self._server.health.refresh_by(self._probe.refresh)
        self.address = self._server.address
        try:
            await self._orchestrator.start()
            self._tokens.key = await page_token_key(self._orchestrator.database)
            await self._server.start()
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
        self._stopping = True
        async with asyncio.timeout(self._settings.shutdown_timeout_seconds):
            await self._stop_all(grace_seconds=self._settings.shutdown_timeout_seconds)
        log.info("orchestration_stopped")

    async def _stop_all(self, *, grace_seconds: float) -> None:
        await self._server.health.set_ready(False)
        await self._orchestrator.watching.stop()
        await self._server.stop(grace_seconds)
        await self._probe.stop()
        await self._orchestrator.stop()

    async def _set_ready(self, ready: bool) -> None:
        await self._server.health.set_ready(ready and not self._stopping)

    def _registrations(self) -> list[ServiceRegistration[Any]]:
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
                    engine.watching,
                    self._tokens,
                ),
                tasks_pb2_grpc.add_TaskServiceServicer_to_server,
            ),
            ServiceRegistration(
                steps_pb2.DESCRIPTOR.services_by_name["StepService"],
                StepService(engine.reader, AuditReader(engine.database), engine.operators, self._tokens),
                steps_pb2_grpc.add_StepServiceServicer_to_server,
            ),
            ServiceRegistration(
                templates_pb2.DESCRIPTOR.services_by_name["TemplateService"],
                TemplateService(TemplateReader(engine.database)),
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
                ConfigService(self._settings, engine.database),
                config_pb2_grpc.add_ConfigServiceServicer_to_server,
            ),
            ServiceRegistration(
                batch_pb2.DESCRIPTOR.services_by_name["BatchService"],
                BatchService(engine.groups),
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
                HealthService(engine, self._probe, environment=self._settings.environment),
                health_pb2_grpc.add_HealthServiceServicer_to_server,
            ),
        ]
