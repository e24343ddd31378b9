"""What calls return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tasker.client.failure_records import StepFailure, TaskCancellation, TaskFailure
from tasker.domain.states import StepState, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a task, as the service saw it when it answered.

    Attributes:
        task_uuid: The task it belongs to.
        step_uuid: The step; the same in every attempt.
        name: Its name, unique in the task.
        state: Where it stands.
        attempts: How often a worker has run it so far.
        max_attempts: How often one may.
        dependencies_satisfied: Whether every parent is complete or was resolved by an operator.
        retry_eligible: Whether attempts are left, or none was made yet.
        ready_for_execution: Whether it may be enqueued now.
        total_parents: How many steps it waits for.
        completed_parents: How many of them are done.
        results: The stored result of the last attempt: `success`, `result`, `error`, `metadata`.
        backoff_request_seconds: The delay before its next attempt, as it was last computed.
        created_at: When it was created.
        updated_at: When its state last changed.
        completed_at: When it ended.
        last_attempted_at: When a worker last took it.
        last_failure_at: When an attempt last failed.
        next_retry_at: When its backoff is over.
        failure: Why the last attempt failed; None if it did not.
    """

    task_uuid: UUID
    step_uuid: UUID
    name: str
    state: StepState
    attempts: int
    max_attempts: int
    dependencies_satisfied: bool
    retry_eligible: bool
    ready_for_execution: bool
    total_parents: int
    completed_parents: int
    results: Mapping[str, Any] | None
    backoff_request_seconds: int | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    last_attempted_at: datetime | None
    last_failure_at: datetime | None
    next_retry_at: datetime | None
    failure: StepFailure | None = None

    @property
    def result(self) -> Any:
        """What the handler returned, once an attempt succeeded; None before."""
        return self.results.get("result") if self.results and self.results.get("success") else None

    @property
    def error(self) -> Mapping[str, Any] | None:
        """Why the last attempt failed: `message`, `error_type`, `retryable`; None if it did not."""
        return self.results.get("error") if self.results else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task, as the service saw it when it answered.

    Attributes:
        task_uuid: The task.
        namespace: Namespace of its template.
        name: Name of its template.
        version: Version of its template.
        state: Where it stands.
        context: What it was created with, the template's defaults included.
        initiator: Who asked for it.
        source_system: Where the request came from.
        reason: Why it was created.
        priority: From -100 to 100; above 0 its steps go before those of others, below 0 after them.
        tags: Labels to find it by.
        correlation_id: Ties it to other work.
        parent_correlation_id: Correlation id of the work that caused it.
        created_at: When it was created.
        updated_at: When it last changed.
        completed_at: When it completed; None in every other state.
        total_steps: How many steps it has so far.
        pending_steps: Steps that wait for others.
        in_progress_steps: Steps that a worker runs.
        completed_steps: Steps that are complete or were resolved by an operator.
        failed_steps: Steps that failed for good.
        ready_steps: Steps that may be enqueued now.
        execution_status: What its steps are doing, such as `processing` or `blocked_by_failures`.
        recommended_action: What follows from that.
        completion_percentage: Completed steps of all, 0 to 100.
        health_status: `healthy`, `recovering` or `blocked`.
        failure: Why it does not get on or ended in `error`; None if nothing failed.
        cancellation: Why it was cancelled; None if it was not.
        steps: Its steps, oldest first, if they were asked for.
        already_existed: Whether `create` found it by its idempotency key instead of creating it.
    """

    task_uuid: UUID
    namespace: str
    name: str
    version: str
    state: TaskState
    context: Mapping[str, Any]
    initiator: str
    source_system: str
    reason: str
    priority: int
    tags: tuple[str, ...]
    correlation_id: UUID
    parent_correlation_id: UUID | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    total_steps: int
    pending_steps: int
    in_progress_steps: int
    completed_steps: int
    failed_steps: int
    ready_steps: int
    execution_status: str
    recommended_action: str
    completion_percentage: float
    health_status: str
    failure: TaskFailure | None = None
    cancellation: TaskCancellation | None = None
    steps: tuple[Step, ...] = ()
    already_existed: bool = False

    def step(self, name: str) -> Step:
        """Return one of the steps that were asked for.

        Raises:
            KeyError: There is none of that name.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(
            f"task {self.task_uuid} came with no step {name!r}; ask for its steps, or check the name"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAuditRecord:
    """One result that a worker submitted for a step.

    Attributes:
        audit_uuid: The record.
        transition_uuid: The change of the step's state by which the result came.
        task_uuid: The task.
        step_uuid: The step.
        step_name: Its name.
        recorded_at: When the result came.
        worker_uuid: Who ran the step.
        correlation_id: Of the task.
        attempt: Which attempt it was, counted from 1; a reset starts anew.
        success: Whether it succeeded.
        execution_time_ms: Run time of the handler, in milliseconds.
        result: What the handler returned; `{}` after a failure.
        failure: Why it failed; None after a success.
        from_state: Where the step was.
        to_state: Where it went.
    """

    audit_uuid: UUID
    transition_uuid: UUID
    task_uuid: UUID
    step_uuid: UUID
    step_name: str
    recorded_at: datetime
    worker_uuid: UUID | None
    correlation_id: UUID | None
    attempt: int | None
    success: bool
    execution_time_ms: int | None
    result: Any
    failure: StepFailure | None
    from_state: StepState | None
    to_state: StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIntervention:
    """What an operator did to a step.

    Attributes:
        intervened_at: When.
        action: `reset_for_retry`, `resolve_manually` or `complete_manually`; `cancel` where its task was cancelled.
        performed_by: Who did it, if that was said.
        reason: Why, if that was said.
        from_state: Where the step was.
        to_state: Where it went.
    """

    intervened_at: datetime
    action: str
    performed_by: str | None
    reason: str | None
    from_state: StepState
    to_state: StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    """One page of a listing.

    Attributes:
        tasks: The tasks, without their steps.
        total: How many tasks match in all; exact up to 10,000.
        next_token: What to ask for the page behind this one with; None behind the last one.
    """

    tasks: tuple[Task, ...]
    total: int
    next_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """What cancelling a task came to.

    Attributes:
        task: The task after the call, cancelled or not.
        success: False if the task had ended before.
        message: Why it was not cancelled.
    """

    task: Task
    success: bool
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUpdate:
    """The task moved, or is where it says when watching begins.

    Attributes:
        task_uuid: The task.
        at: When it moved.
        state: Where to.
        previous_state: Where from; None in the first and last update.
        is_last: Whether the task is settled and no update follows.
        error_message: What failed; in a last update that tells no success.
        task: How the task stands, without its context; in the first update of a watch that begins with the present.
        steps: How its steps stand, if steps are watched; in that update, too.
        cursor: `watch` goes on behind this update with it. The last of the updates that the service read at once has
            one.
    """

    task_uuid: UUID
    at: datetime
    state: TaskState
    previous_state: TaskState | None = None
    is_last: bool = False
    error_message: str | None = None
    task: Task | None = None
    steps: tuple[StepUpdate, ...] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpdate:
    """A step of the task moved.

    Attributes:
        task_uuid: The task.
        step_uuid: The step.
        name: The step's name.
        at: When it moved.
        state: Where to.
        attempt: Attempts made so far.
        cursor: `watch` goes on behind this update with it. The last of the updates that the service read at once has
            one.
    """

    task_uuid: UUID
    step_uuid: UUID
    name: str
    at: datetime
    state: StepState
    attempt: int
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Nothing happened: a sign of life.

    Attributes:
        at: Until when everything was seen.
        cursor: `watch` goes on behind this with it.
    """

    at: datetime
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedUpdate:
    """Something happened to one of many tasks, or nothing.

    Attributes:
        namespace: Namespace of the task.
        name: Name of the task's template.
        update: What moved; None in a sign of life.
        at: When it moved; in a sign of life until when everything was seen.
        cursor: `watch_tasks` goes on behind this with it. The last of the updates that the service read at once has
            one.
    """

    namespace: str
    name: str
    update: TaskUpdate | StepUpdate | None
    at: datetime
    cursor: str | None
