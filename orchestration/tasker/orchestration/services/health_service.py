"""tasker.v1.HealthService: open to all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from tasker.domain.backpressure import PressureLevel
from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE
from tasker.orchestration.engine.orchestrator import Orchestrator
from tasker.persistence.failures import is_transient
from tasker.persistence.probe import DatabaseProbe
from tasker.persistence.reading.poison import PoisonReader
from tasker.persistence.reading.queues import QueueReader
from tasker.rpc.errors import NotReadyError
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.pool_details import pool_detail
from tasker.rpc.readiness import Readiness
from tasker.telemetry.loop_watch import LoopWatch
from tasker.v1 import health_pb2, health_pb2_grpc
from tasker.version import VERSION

_BACKLOGS_SHOWN: Final = 3


class HealthService(health_pb2_grpc.HealthServiceServicer):
    """Says whether the process lives, is ready, and how its parts are."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        probe: DatabaseProbe,
        readiness: Readiness,
        loop_watch: LoopWatch,
        *,
        environment: str,
    ) -> None:
        self._orchestrator = orchestrator
        self._probe = probe
        self._readiness = readiness
        self._loop_watch = loop_watch
        self._environment = environment

    async def CheckHealth(
        self, request: health_pb2.HealthRequest, context: ServicerContext
    ) -> health_pb2.HealthResponse:
        """Answer, which is all a basic check asks."""
        return health_pb2.HealthResponse(status="healthy", timestamp=_now())

    async def CheckLiveness(
        self, request: health_pb2.LivenessRequest, context: ServicerContext
    ) -> health_pb2.HealthResponse:
        """Answer that the process lives."""
        return health_pb2.HealthResponse(status="alive", timestamp=_now())

    async def CheckReadiness(
        self, request: health_pb2.ReadinessRequest, context: ServicerContext
    ) -> health_pb2.ReadinessResponse:
        """Answer `ready`; or UNAVAILABLE, with the reply in the details, while tasks cannot be created or get on."""
        await self._probe.check()
        await self._readiness.update()
        problems = self._readiness.problems
        database = self._database_check()
        answer = health_pb2.ReadinessResponse(
            status="not_ready" if problems else "ready",
            timestamp=_now(),
            checks=health_pb2.ReadinessChecks(
                web_database=database,
                orchestration_database=database,
                circuit_breaker=_not_applicable("there are no circuit breakers: loops retry with backoff"),
                orchestration_system=self._loops_check(),
                command_processor=_check("healthy", "tasks are created in the calls themselves"),
            ),
            info=self._info(),
        )
        if problems:
            raise NotReadyError(problems, answer)
        return answer

    async def CheckDetailedHealth(
        self, request: health_pb2.DetailedHealthRequest, context: ServicerContext
    ) -> health_pb2.DetailedHealthResponse:
        """Answer with every check, whether they pass or not."""
        await self._probe.check()
        database = self._database_check()
        loops = self._loops_check()
        pool = self._pool_check()
        queues, poison, paused = await self._message_checks()
        every = (database, loops, pool, queues, poison)
        return health_pb2.DetailedHealthResponse(
            status="healthy" if all(check.status == "healthy" for check in every) else "degraded",
            timestamp=_now(),
            checks=health_pb2.DetailedHealthChecks(
                web_database=database,
                orchestration_database=database,
                circuit_breaker=_not_applicable("there are no circuit breakers: loops retry with backoff"),
                orchestration_system=loops,
                command_processor=_check("healthy", "tasks are created in the calls themselves"),
                pool_utilization=pool,
                queue_depth=queues,
                channel_saturation=_not_applicable(
                    "there are no in-process channels: the database is the queue"
                ),
                poison_messages=poison,
            ),
            info=self._info(paused),
        )

    def _database_check(self) -> health_pb2.HealthCheck:
        milliseconds = self._probe.milliseconds
        if self._probe.problem is not None:
            return _check("unhealthy", self._probe.problem, milliseconds)
        return _check("healthy", f"answered in {milliseconds} ms", milliseconds)

    def _loops_check(self) -> health_pb2.HealthCheck:
        if failing := self._orchestrator.failing_loops:
            return _check("degraded", f"loops that fail right now: {', '.join(failing)}")
        if not self._orchestrator.is_listening:
            return _check("degraded", "no notifications arrive; polling goes on")
        if (problem := self._loop_watch.problem) is not None:
            return _check("degraded", problem)
        return _check("healthy", "all loops run")

    def _pool_check(self) -> health_pb2.HealthCheck:
        usage = self._orchestrator.database.usage()
        percent = 100 * usage.utilization
        status = "unhealthy" if percent > 95 else "degraded" if percent > 80 else "healthy"
        return _check(status, f"{usage.active} of {usage.most} connections in use")

    async def _message_checks(self) -> tuple[health_pb2.HealthCheck, health_pb2.HealthCheck, list[str]]:
        """Return what the database says of messages that wait, of those that nobody could handle, and who is paused."""
        unknown = _check("unknown", self._probe.problem or "the database does not answer")
        if not self._probe.ready:
            return unknown, unknown, []
        started = time.perf_counter()
        try:
            # One picture: a message that is taken out of its queue just now shows once.
            async with self._orchestrator.database.snapshot() as snapshot:
                reader = QueueReader(snapshot)
                depth = await reader.depth([RESULTS_QUEUE, JUDGEMENTS_QUEUE])
                paused = [pause.namespace for pause in await reader.pauses()]
                poison = await PoisonReader(snapshot).counts()
        except Exception as error:
            if not is_transient(error):
                raise
            return unknown, unknown, []
        duration_ms = round((time.perf_counter() - started) * 1000)
        recorded = f"{poison.last_hour} recorded in the last hour, {poison.last_day} in the last day"
        return (
            self._depth_check(depth, duration_ms),
            _check("degraded" if poison.last_hour else "healthy", recorded, duration_ms),
            paused,
        )

    def _depth_check(self, depth: int, duration_ms: int) -> health_pb2.HealthCheck:
        """Return what it means that so many results wait, and what waits elsewhere."""
        backpressure = self._orchestrator.backpressure
        raised = backpressure.raised or []
        level = max(
            backpressure.level_of_results(depth), *(one.level for one in raised), PressureLevel.NORMAL
        )
        status = "unhealthy" if level.refuses_work else "degraded" if level else "healthy"
        elsewhere = [one.reason for one in raised if one.namespace is not None]
        return _check(status, "; ".join([f"{depth} results wait", *elsewhere[:_BACKLOGS_SHOWN]]), duration_ms)

    def _info(self, paused_namespaces: Sequence[str] = ()) -> health_pb2.HealthInfo:
        usage = self._orchestrator.database.usage()
        detail = pool_detail(health_pb2.PoolDetail, usage)
        return health_pb2.HealthInfo(
            version=VERSION,
            environment=self._environment,
            operational_state=self._readiness.state,
            web_database_pool_size=usage.most,
            orchestration_database_pool_size=usage.most,
            circuit_breaker_state="Closed",
            pool_utilization=health_pb2.PoolUtilizationInfo(tasker_pool=detail, pgmq_pool=detail),
            paused_namespaces=paused_namespaces,
        )


def _check(status: str, message: str, duration_ms: int = 0) -> health_pb2.HealthCheck:
    return health_pb2.HealthCheck(status=status, message=message, duration_ms=duration_ms)


def _not_applicable(message: str) -> health_pb2.HealthCheck:
    return _check("healthy", message)


def _now() -> str:
    return datetime.now(UTC).isoformat()
