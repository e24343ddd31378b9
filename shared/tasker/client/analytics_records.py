"""What the service says about how work went lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tasker.domain.states import StepState, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What became of the tasks that were created in a period.

    Attributes:
        since: The beginning of the period: with `is_partial`, the creation of the oldest task that was looked at.
        at: Its end, up to a minute ago.
        is_partial: Whether the period has more tasks than were looked at.
        total, active, completed, failed: Tasks. One that a failure blocks is active and failed.
        completion_rate, error_rate: Shares of the tasks, 0 to 1.
        average_task_seconds: From creation to completion.
        average_step_seconds: How long a handler ran.
        tasks_per_hour, steps_per_hour: Of an hour of the period.
        health_score: 0 (nothing works) to 1 (all well).
    """

    since: datetime
    at: datetime
    is_partial: bool
    total: int
    active: int
    completed: int
    failed: int
    completion_rate: float
    error_rate: float
    average_task_seconds: float
    average_step_seconds: float
    tasks_per_hour: int
    steps_per_hour: int
    health_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowStep:
    """How the executions of one step of a template went.

    Attributes:
        namespace, template, version: The template.
        step: Name of the step.
        average_seconds, longest_seconds: How long a handler ran.
        executions, failures: How often it ran, and how often it failed then.
        last_at: When it last ended.
    """

    namespace: str
    template: str
    version: str
    step: str
    average_seconds: float
    longest_seconds: float
    executions: int
    failures: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowTask:
    """How the tasks of one template went.

    Attributes:
        namespace, template, version: The template.
        average_seconds, longest_seconds: From creation to the end.
        executions, failures: Tasks that ended or are blocked by failures, and how many of them failed.
        average_steps: Steps of a task.
        last_at: When one of them last changed.
    """

    namespace: str
    template: str
    version: str
    average_seconds: float
    longest_seconds: float
    executions: int
    failures: int
    average_steps: float
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottlenecks:
    """What holds work up.

    Attributes:
        steps, tasks: The slowest ones, by template.
        task_states, step_states: How many are in each state.
        pool_utilization: The share of the service's pooled connections that is in use, 0 to 1.
        recommendations: What a person might look at.
    """

    steps: tuple[SlowStep, ...]
    tasks: tuple[SlowTask, ...]
    task_states: Mapping[TaskState, int]
    step_states: Mapping[StepState, int]
    pool_utilization: float
    recommendations: tuple[str, ...]
