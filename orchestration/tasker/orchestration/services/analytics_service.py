"""tasker.v1.AnalyticsService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import Message

from tasker.domain.errors import InvalidArgumentError
from tasker.domain.states import StepState, TaskState
from tasker.orchestration.engine.analytics import Analytics, share
from tasker.persistence.reading.analytics import SlowStep, SlowTask, StateCount
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import analytics_pb2, analytics_pb2_grpc

_DEFAULT_HOURS: Final = 24
_MOST_HOURS: Final = 24 * 366
_DEFAULT_LIMIT: Final = 10
_MOST_ROWS: Final = 1000
_DEFAULT_MIN_EXECUTIONS: Final = 5
_MOST_EXECUTIONS: Final = 1_000_000


class AnalyticsService(analytics_pb2_grpc.AnalyticsServiceServicer):
    """Tells how work went lately, and what holds it up."""

    def __init__(self, analytics: Analytics) -> None:
        self._analytics = analytics

    async def GetPerformanceMetrics(
        self, request: analytics_pb2.GetPerformanceMetricsRequest, context: ServicerContext
    ) -> analytics_pb2.GetPerformanceMetricsResponse:
        """Return totals, rates and durations of the tasks created in a period."""
        hours = _number(request, "hours", _DEFAULT_HOURS, 0, _MOST_HOURS)
        performance = await self._analytics.performance(hours)
        record = performance.record
        return analytics_pb2.GetPerformanceMetricsResponse(
            total_tasks=record.total,
            active_tasks=record.active,
            completed_tasks=record.complete,
            failed_tasks=record.failed,
            completion_rate=performance.completion_rate,
            error_rate=performance.error_rate,
            average_task_duration_seconds=record.average_seconds,
            average_step_duration_seconds=record.average_execution_ms / 1000,
            tasks_per_hour=performance.per_hour(record.total),
            steps_per_hour=performance.per_hour(record.steps),
            system_health_score=performance.health_score,
            analysis_period_start=record.since.isoformat(),
            calculated_at=record.calculated_at.isoformat(),
            is_partial=record.is_partial,
        )

    async def GetBottleneckAnalysis(
        self, request: analytics_pb2.GetBottleneckAnalysisRequest, context: ServicerContext
    ) -> analytics_pb2.GetBottleneckAnalysisResponse:
        """Return the slowest steps and tasks, and how loaded the system is."""
        bottlenecks = await self._analytics.bottlenecks(
            limit=_number(request, "limit", _DEFAULT_LIMIT, 1, _MOST_ROWS),
            min_executions=_number(request, "min_executions", _DEFAULT_MIN_EXECUTIONS, 0, _MOST_EXECUTIONS),
        )
        return analytics_pb2.GetBottleneckAnalysisResponse(
            slow_steps=[_slow_step(step) for step in bottlenecks.steps],
            slow_tasks=[_slow_task(task) for task in bottlenecks.tasks],
            resource_utilization=analytics_pb2.ResourceUtilization(
                database_pool_utilization=bottlenecks.pool_utilization,
                system_health=_system_health(bottlenecks.states),
            ),
            recommendations=bottlenecks.recommendations,
        )


def _number(request: Message, field: str, default: int, least: int, most: int) -> int:
    if not request.HasField(field):
        return default
    value: int = getattr(request, field)
    if not least <= value <= most:
        raise InvalidArgumentError.of(field, f"{value} not in {least}..{most}")
    return value


def _slow_step(step: SlowStep) -> analytics_pb2.SlowStepInfo:
    return analytics_pb2.SlowStepInfo(
        namespace_name=step.namespace,
        task_name=step.name,
        version=step.version,
        step_name=step.step_name,
        average_duration_seconds=step.average_seconds,
        max_duration_seconds=step.longest_seconds,
        execution_count=step.executions,
        error_count=step.failures,
        error_rate=share(step.failures, step.executions),
        last_executed_at=step.last_at.isoformat(),
    )


def _slow_task(task: SlowTask) -> analytics_pb2.SlowTaskInfo:
    return analytics_pb2.SlowTaskInfo(
        namespace_name=task.namespace,
        task_name=task.name,
        version=task.version,
        average_duration_seconds=task.average_seconds,
        max_duration_seconds=task.longest_seconds,
        execution_count=task.executions,
        average_step_count=task.average_steps,
        error_count=task.failures,
        error_rate=share(task.failures, task.executions),
        last_executed_at=task.last_at.isoformat(),
    )


def _system_health(states: Sequence[StateCount]) -> analytics_pb2.SystemHealthCounts:
    """Return the counts; a state without any counts 0."""
    counted = {(one.of_what, one.state): one.count for one in states}
    return analytics_pb2.SystemHealthCounts(
        **{f"{state}_tasks": counted.get(("tasks", state), 0) for state in TaskState},
        **{f"{state}_steps": counted.get(("steps", state), 0) for state in StepState},
        total_tasks=sum(one.count for one in states if one.of_what == "tasks"),
        total_steps=sum(one.count for one in states if one.of_what == "steps"),
    )
