"""tasker.v1.WorkerHealthService: open to all."""

from __future__ import annotations

import time

from google.protobuf.timestamp_pb2 import Timestamp

from tasker.persistence.probe import DatabaseProbe
from tasker.rpc.errors import NotReadyError
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.pool_details import pool_detail
from tasker.rpc.readiness import Readiness
from tasker.telemetry.loop_watch import LoopWatch
from tasker.v1 import worker_pb2, worker_pb2_grpc
from tasker.version import VERSION
from tasker.worker.runtime.worker import WORKER_TYPE, Worker


class WorkerHealthService(worker_pb2_grpc.WorkerHealthServiceServicer):
    """Says whether the process lives, is ready, and how its parts are."""

    def __init__(
        self,
        worker: Worker,
        probe: DatabaseProbe,
        readiness: Readiness,
        loop_watch: LoopWatch,
        *,
        environment: str,
    ) -> None:
        self._worker = worker
        self._probe = probe
        self._readiness = readiness
        self._loop_watch = loop_watch
        self._environment = environment
        self._started = time.monotonic()

    async def CheckHealth(
        self, request: worker_pb2.WorkerHealthRequest, context: ServicerContext
    ) -> worker_pb2.WorkerBasicHealthResponse:
        """Answer, which is all a basic check asks."""
        return self._basic("healthy")

    async def CheckLiveness(
        self, request: worker_pb2.WorkerLivenessRequest, context: ServicerContext
    ) -> worker_pb2.WorkerBasicHealthResponse:
        """Answer that the process lives."""
        return self._basic("alive")

    async def CheckReadiness(
        self, request: worker_pb2.WorkerReadinessRequest, context: ServicerContext
    ) -> worker_pb2.WorkerReadinessResponse:
        """Answer `ready`; or UNAVAILABLE, with the reply in the details, while the worker can run no steps."""
        await self._probe.check()
        await self._readiness.update()
        problems = self._readiness.problems
        answer = worker_pb2.WorkerReadinessResponse(
            status="not_ready" if problems else "ready",
            timestamp=_now(),
            worker_id=self._worker.worker_id,
            checks=worker_pb2.WorkerReadinessChecks(
                database=self._database_check(),
                command_processor=self._claims_check(),
                queue_processing=self._listener_check(),
            ),
            system_info=self._system_info(),
        )
        if problems:
            raise NotReadyError(problems, answer)
        return answer

    async def CheckDetailedHealth(
        self, request: worker_pb2.WorkerDetailedHealthRequest, context: ServicerContext
    ) -> worker_pb2.WorkerDetailedHealthResponse:
        """Answer with every check, whether they pass or not."""
        await self._probe.check()
        checks = worker_pb2.WorkerDetailedChecks(
            database=self._database_check(),
            command_processor=self._claims_check(),
            queue_processing=self._listener_check(),
            event_system=_check("healthy", "this worker publishes no domain events"),
            step_processing=self._steps_check(),
            circuit_breakers=_check("healthy", "there are none: claims and submissions retry with backoff"),
        )
        every = (
            checks.database, checks.command_processor, checks.queue_processing, checks.step_processing
        )  # fmt: skip
        return worker_pb2.WorkerDetailedHealthResponse(
            status="healthy" if all(check.status == "healthy" for check in every) else "degraded",
            timestamp=_now(),
            worker_id=self._worker.worker_id,
            checks=checks,
            system_info=self._system_info(),
        )

    def _basic(self, status: str) -> worker_pb2.WorkerBasicHealthResponse:
        return worker_pb2.WorkerBasicHealthResponse(
            status=status, timestamp=_now(), worker_id=self._worker.worker_id
        )

    def _database_check(self) -> worker_pb2.WorkerHealthCheck:
        milliseconds = self._probe.milliseconds
        if self._probe.problem is not None:
            return _check("unhealthy", self._probe.problem, milliseconds)
        return _check("healthy", f"answered in {milliseconds} ms", milliseconds)

    def _claims_check(self) -> worker_pb2.WorkerHealthCheck:
        if self._worker.problem is not None:
            return _check("unhealthy", self._worker.problem)
        return _check("healthy", "steps are claimed")

    def _steps_check(self) -> worker_pb2.WorkerHealthCheck:
        """Return how many steps run, and what keeps others from running."""
        hung = self._worker.slots_hung
        message = f"{self._worker.slots_in_use - hung} steps run"
        if hung:
            message += f"; {hung} slots are taken by handlers that go on after their step has ended"
        if (problem := self._loop_watch.problem) is not None:
            return _check("degraded", f"{message}; {problem}")
        return _check("degraded" if hung else "healthy", message)

    def _listener_check(self) -> worker_pb2.WorkerHealthCheck:
        if self._worker.is_listening:
            return _check("healthy", "notifications arrive")
        return _check("degraded", "no notifications arrive; polling goes on")

    def _system_info(self) -> worker_pb2.WorkerSystemInfo:
        usage = self._worker.database.usage()
        detail = pool_detail(worker_pb2.WorkerPoolDetail, usage)
        return worker_pb2.WorkerSystemInfo(
            version=VERSION,
            environment=self._environment,
            uptime_seconds=int(time.monotonic() - self._started),
            worker_type=WORKER_TYPE,
            database_pool_size=usage.most,
            command_processor_active=self._worker.is_claiming,
            supported_namespaces=self._worker.namespaces,
            pool_utilization=worker_pb2.WorkerPoolUtilizationInfo(tasker_pool=detail, pgmq_pool=detail),
        )


def _check(status: str, message: str, duration_ms: int = 0) -> worker_pb2.WorkerHealthCheck:
    return worker_pb2.WorkerHealthCheck(
        status=status, message=message, duration_ms=duration_ms, last_checked=_now()
    )


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
