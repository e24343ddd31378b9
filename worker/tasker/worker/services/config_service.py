"""tasker.v1.WorkerConfigService."""

from __future__ import annotations

from tasker.config.settings import WorkerSettings
from tasker.messaging.claim_order import ClaimOrder
from tasker.rpc import shown_settings
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.security import Security
from tasker.v1 import worker_pb2, worker_pb2_grpc
from tasker.worker.runtime.worker import WORKER_TYPE, Worker


class WorkerConfigService(worker_pb2_grpc.WorkerConfigServiceServicer):
    """Shows the settings that are safe to show."""

    def __init__(self, settings: WorkerSettings, worker: Worker, security: Security) -> None:
        self._settings = settings
        self._security = security
        self._worker = worker

    async def GetConfig(
        self, request: worker_pb2.WorkerGetConfigRequest, context: ServicerContext
    ) -> worker_pb2.WorkerGetConfigResponse:
        """Return them."""
        return worker_pb2.WorkerGetConfigResponse(
            metadata=shown_settings.metadata(self._settings),
            worker_id=self._worker.worker_id,
            worker_type=WORKER_TYPE,
            auth=shown_settings.auth(self._settings, self._security),
            messaging=shown_settings.messaging(ClaimOrder(self._worker.namespaces).queues()),
        )
