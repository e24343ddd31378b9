"""tasker.v1.ConfigService."""

from __future__ import annotations

from tasker.config.settings import OrchestrationSettings
from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE
from tasker.persistence.database import Database
from tasker.rpc import shown_settings
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.security import Security
from tasker.v1 import config_pb2, config_pb2_grpc


class ConfigService(config_pb2_grpc.ConfigServiceServicer):
    """Shows the settings that are safe to show."""

    def __init__(self, settings: OrchestrationSettings, database: Database, security: Security) -> None:
        self._settings = settings
        self._security = security
        self._database = database

    async def GetConfig(
        self, request: config_pb2.GetConfigRequest, context: ServicerContext
    ) -> config_pb2.GetConfigResponse:
        """Return them."""
        most = self._database.usage().most
        return config_pb2.GetConfigResponse(
            metadata=shown_settings.metadata(self._settings),
            auth=shown_settings.auth(self._settings, self._security),
            # There are none: loops try again with pauses that grow.
            circuit_breakers=config_pb2.SafeCircuitBreakerConfig(enabled=False),
            database_pools=config_pb2.SafeDatabasePoolConfig(
                web_api_pool_size=most, web_api_max_connections=most
            ),
            deployment_mode=shown_settings.DEPLOYMENT_MODE,
            messaging=shown_settings.messaging([RESULTS_QUEUE, JUDGEMENTS_QUEUE]),
        )
