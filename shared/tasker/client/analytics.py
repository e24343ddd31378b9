"""How work went lately, and what holds it up."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property

from tasker.client.analytics_records import Bottlenecks, Metrics, SlowStep, SlowTask
from tasker.client.connection import Connection
from tasker.domain.states import StepState, TaskState
from tasker.v1 import analytics_pb2, analytics_pb2_grpc


class AnalyticsCalls:
    """The calls of `TaskerClient.analytics`. An answer is kept by the service for a minute."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def metrics(self, *, hours: int | None = None, timeout: float | None = None) -> Metrics:
        """Return what became of the tasks that were created lately.

        Args:
            hours: The last so many; 24 by default, 0 for all time. Of many tasks the newest 10,000 are looked at.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: That is no number of hours.
        """
        request = analytics_pb2.GetPerformanceMetricsRequest(hours=hours)
        answer = await self._connection.call(self._stub.GetPerformanceMetrics, request, timeout=timeout)
        return _metrics(answer)

    async def bottlenecks(
        self, *, limit: int | None = None, min_executions: int | None = None, timeout: float | None = None
    ) -> Bottlenecks:
        """Return what was slow among the newest 10,000 tasks.

        Args:
            limit: Steps and templates at most, 1 to 1000; 10 by default.
            min_executions: Leave out what ran less often; 5 by default.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: A number is out of range.
        """
        request = analytics_pb2.GetBottleneckAnalysisRequest(limit=limit, min_executions=min_executions)
        answer = await self._connection.call(self._stub.GetBottleneckAnalysis, request, timeout=timeout)
        return _bottlenecks(answer)

    @cached_property
    def _stub(self) -> analytics_pb2_grpc.AnalyticsServiceAsyncStub:
        return analytics_pb2_grpc.AnalyticsServiceStub(self._connection.channel)


def _metrics(message: analytics_pb2.GetPerformanceMetricsResponse) -> Metrics:
    return Metrics(
        since=datetime.fromisoformat(message.analysis_period_start),
        at=datetime.fromisoformat(message.calculated_at),
        is_partial=message.is_partial,
        total=message.total_tasks,
        active=message.active_tasks,
        completed=message.completed_tasks,
        failed=message.failed_tasks,
        completion_rate=message.completion_rate,
        error_rate=message.error_rate,
        average_task_seconds=message.average_task_duration_seconds,
        average_step_seconds=message.average_step_duration_seconds,
        tasks_per_hour=message.tasks_per_hour,
        steps_per_hour=message.steps_per_hour,
        health_score=message.system_health_score,
    )


def _bottlenecks(message: analytics_pb2.GetBottleneckAnalysisResponse) -> Bottlenecks:
    counts = message.resource_utilization.system_health
    return Bottlenecks(
        steps=tuple(_slow_step(step) for step in message.slow_steps),
        tasks=tuple(_slow_task(task) for task in message.slow_tasks),
        task_states={state: getattr(counts, f"{state}_tasks") for state in TaskState},
        step_states={state: getattr(counts, f"{state}_steps") for state in StepState},
        pool_utilization=message.resource_utilization.database_pool_utilization,
        recommendations=tuple(message.recommendations),
    )


def _slow_step(message: analytics_pb2.SlowStepInfo) -> SlowStep:
    return SlowStep(
        namespace=message.namespace_name,
        template=message.task_name,
        version=message.version,
        step=message.step_name,
        average_seconds=message.average_duration_seconds,
        longest_seconds=message.max_duration_seconds,
        executions=message.execution_count,
        failures=message.error_count,
        last_at=datetime.fromisoformat(message.last_executed_at),
    )


def _slow_task(message: analytics_pb2.SlowTaskInfo) -> SlowTask:
    return SlowTask(
        namespace=message.namespace_name,
        template=message.task_name,
        version=message.version,
        average_seconds=message.average_duration_seconds,
        longest_seconds=message.max_duration_seconds,
        executions=message.execution_count,
        failures=message.error_count,
        average_steps=message.average_step_count,
        last_at=datetime.fromisoformat(message.last_executed_at),
    )
