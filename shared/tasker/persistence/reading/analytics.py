"""Reading what became of many tasks: of the newest ones, so that an answer costs the same however many there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tasker.persistence.queries import statement
from tasker.persistence.sessions import Sessions

_PERFORMANCE: Final = statement("performance")
_SLOW_STEPS: Final = statement("slow_steps")
_SLOW_TASKS: Final = statement("slow_tasks")
_STATE_COUNTS: Final = statement("state_counts")
_SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@dataclass(frozen=True, slots=True)
class PerformanceRecord:
    """What became of the tasks that were created in a period.

    Attributes:
        calculated_at: The end of the period.
        since: Its beginning: with `is_partial` the creation of the oldest task that was looked at.
        is_partial: Whether there were more tasks than are looked at.
        total, active, complete, failed: Tasks; those that a failure blocks are active and failed.
        average_seconds: From creation to completion.
        steps: Steps of these tasks that are satisfied or failed.
        executions, failed_executions: Times that a handler ran.
        average_execution_ms: How long one did, in milliseconds.
    """

    calculated_at: datetime
    since: datetime
    is_partial: bool
    total: int
    active: int
    complete: int
    failed: int
    average_seconds: float
    steps: int
    executions: int
    failed_executions: int
    average_execution_ms: float


@dataclass(frozen=True, slots=True)
class SlowStep:
    """How the executions of one step of a template went."""

    namespace: str
    name: str
    version: str
    step_name: str
    average_seconds: float
    longest_seconds: float
    executions: int
    failures: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class SlowTask:
    """How the tasks of one template went."""

    namespace: str
    name: str
    version: str
    average_seconds: float
    longest_seconds: float
    executions: int
    average_steps: float
    failures: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many `tasks` or `steps` are in a state."""

    of_what: str
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class BottleneckRecord:
    """Steps and tasks by template, slowest first, and how many are in which state; all as of one moment."""

    steps: list[SlowStep]
    tasks: list[SlowTask]
    states: list[StateCount]


class AnalyticsReader:
    """Answers questions about many tasks. Its sessions keep one plan a statement, whatever the statistics say."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def performance(self, hours: int) -> PerformanceRecord:
        """Return what became of the tasks of the last so many hours; 0 for all time."""
        (record,) = await self._sessions.fetch_all(PerformanceRecord, _PERFORMANCE, {"hours": hours})
        return record

    async def bottlenecks(self) -> BottleneckRecord:
        """Return what was slow among the newest tasks, whatever the hour."""
        async with self._sessions.transaction() as transaction:
            await transaction.execute(_SNAPSHOT)
            return BottleneckRecord(
                await transaction.fetch_all(SlowStep, _SLOW_STEPS),
                await transaction.fetch_all(SlowTask, _SLOW_TASKS),
                await transaction.fetch_all(StateCount, _STATE_COUNTS),
            )
