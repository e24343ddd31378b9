"""How work went lately, and what holds it up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tasker.orchestration.engine.kept_answers import KeptAnswers
from tasker.persistence.database import PoolUsage
from tasker.persistence.reading.analytics import (
    AnalyticsReader,
    BottleneckRecord,
    PerformanceRecord,
    SlowStep,
    SlowTask,
    StateCount,
)

_KEPT_SECONDS: Final = 60
_TIMEOUT_SECONDS: Final = 15

_HIGH_ERROR_RATE: Final = 0.2
_HIGH_UTILIZATION: Final = 0.8
_SLOW_STEP_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Performance:
    """What became of the tasks of a period, and rates made of that."""

    record: PerformanceRecord

    @property
    def completion_rate(self) -> float:
        """The share of the tasks that is complete, 0 to 1."""
        return share(self.record.complete, self.record.total)

    @property
    def error_rate(self) -> float:
        """The share of the tasks that a failure ended or blocks, 0 to 1."""
        return share(self.record.failed, self.record.total)

    @property
    def health_score(self) -> float:
        """The share of tasks that no failure ended or blocks, times the share of executions that succeeded: 0 to 1."""
        return (1 - self.error_rate) * (1 - share(self.record.failed_executions, self.record.executions))

    def per_hour(self, count: int) -> int:
        """Return how many that is in an hour of the period; one of some minutes is not stretched to an hour."""
        period = max(self.record.calculated_at - self.record.since, timedelta(hours=1))
        return round(count / (period / timedelta(hours=1)))


@dataclass(frozen=True, slots=True)
class Bottlenecks:
    """What holds work up.

    Attributes:
        steps, tasks: The slowest ones, by template.
        states: How many tasks and steps are in which state.
        pool_utilization: The share of the service's pooled connections that is lent, 0 to 1.
        recommendations: What a person might look at.
    """

    steps: Sequence[SlowStep]
    tasks: Sequence[SlowTask]
    states: Sequence[StateCount]
    pool_utilization: float
    recommendations: Sequence[str]


class Analytics:
    """Computes from what is stored; what was computed is kept for a minute."""

    def __init__(self, reader: AnalyticsReader, usage: Callable[[], PoolUsage]) -> None:
        """`usage` says how the service's pool is used right now."""
        self._usage = usage
        self._performance = KeptAnswers(
            reader.performance, seconds=_KEPT_SECONDS, timeout_seconds=_TIMEOUT_SECONDS
        )

        self._bottlenecks: KeptAnswers[None, BottleneckRecord] = KeptAnswers(
            lambda _: reader.bottlenecks(), seconds=_KEPT_SECONDS, timeout_seconds=_TIMEOUT_SECONDS
        )

    async def performance(self, hours: int) -> Performance:
        """Return what became of the tasks that were created in the last so many hours; 0 for all time.

        Raises:
            TimeoutError: The database took too long.
        """
        return Performance(await self._performance.get(hours))

    async def bottlenecks(self, *, limit: int, min_executions: int) -> Bottlenecks:
        """Return what was slow.

        Args:
            limit: Rows of each kind.
            min_executions: Leave out what ran less often.

        Raises:
            TimeoutError: The database took too long.
        """
        record = await self._bottlenecks.get(None)
        utilization = self._usage().utilization
        return Bottlenecks(
            [step for step in record.steps if step.executions >= min_executions][:limit],
            [task for task in record.tasks if task.executions >= min_executions][:limit],
            record.states,
            utilization,
            _recommendations(record, utilization, min_executions),
        )

    async def stop(self) -> None:
        """Give up what is being computed."""
        await self._performance.stop()
        await self._bottlenecks.stop()


def share(part: int, whole: int) -> float:
    """Return a part of a whole as a number from 0 to 1; of nothing it is 0."""
    return part / whole if whole else 0.0


def _recommendations(record: BottleneckRecord, utilization: float, min_executions: int) -> list[str]:
    hints = []
    executions = sum(step.executions for step in record.steps)
    error_rate = share(sum(step.failures for step in record.steps), executions)
    if executions >= min_executions and error_rate > _HIGH_ERROR_RATE:
        hints.append(
            f"{error_rate:.0%} of the executions fail: look at the steps with the highest error_rate, and at the "
            "errors of their tasks"
        )
    if utilization > _HIGH_UTILIZATION:
        hints.append(
            f"{utilization:.0%} of this service's pooled connections are in use: add another orchestration service"
        )
    slow = [step for step in record.steps if step.executions >= min_executions]
    if slow and slow[0].average_seconds > _SLOW_STEP_SECONDS:
        hints.append(
            f"step '{slow[0].step_name}' of {slow[0].namespace}/{slow[0].name}:{slow[0].version} takes "
            f"{slow[0].average_seconds:.0f} s on average: split its work, or give it workers of its own"
        )
    return hints
