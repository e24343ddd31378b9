"""What calls return that look at one task as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tasker.client.failure_records import TaskCancellation, TaskFailure
from tasker.client.template_records import StepDefinition
from tasker.domain.dlq import DlqReason, ResolutionStatus
from tasker.domain.states import StepState, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """What went into a task and what its steps made of it.

    Attributes:
        inputs: What it was created with.
        outputs: Results of its completed steps, by step name.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]

    @property
    def merged(self) -> Mapping[str, Any]:
        """Both in one; an output comes before an input of the same name."""
        return {**self.inputs, **self.outputs}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepErrorSummary:
    """Why the last attempt at a step failed, in brief.

    Attributes:
        error_type: Kind of error, as the handler or the runtime named it.
        message: How what it says begins.
        error_class: Class of the exception, if one was raised.
        error_code: The author's own code.
        retryable: Whether another attempt may help.
        status_code: HTTP status behind the failure, if there is one.
        message_omitted: Whether an answer has no room for the message; `client.step` has it.
    """

    error_type: str | None
    message: str | None
    error_class: str | None
    error_code: str | None
    retryable: bool
    status_code: int | None
    message_omitted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """One step in a summary.

    Attributes:
        step_uuid: The step.
        name: Its name.
        state: Where it stands.
        attempts: How often a worker has run it so far.
        max_attempts: How often one may.
        dependencies_satisfied: Whether every parent is complete or was resolved by an operator.
        retry_eligible: Whether attempts are left, or none was made yet.
        error: Why its last attempt failed; None if it did not.
        created_at: When it was created.
        completed_at: When it ended.
        last_attempted_at: When a worker last took it.
        next_retry_at: When its backoff is over.
    """

    step_uuid: UUID
    name: str
    state: StepState
    attempts: int
    max_attempts: int
    dependencies_satisfied: bool
    retry_eligible: bool
    error: StepErrorSummary | None
    created_at: datetime | None
    completed_at: datetime | None
    last_attempted_at: datetime | None
    next_retry_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSummary:
    """All that a page about one task shows.

    Attributes:
        task_uuid, namespace, name, version, state, initiator, source_system, reason, correlation_id: As in `Task`.
        created_at, updated_at, completed_at: As in `Task`.
        total_steps, pending_steps, in_progress_steps, completed_steps, failed_steps: As in `Task`.
        execution_status, recommended_action, completion_percentage, health_status: As in `Task`.
        failure, cancellation: As in `Task`.
        template_steps: The steps of the template that the task was created with.
        steps: The steps it has, oldest first.
        omitted_steps: How many more it has, if an answer does not hold all; `client.steps` has them.
        in_dlq: Whether it waits for a person.
        dlq_reason: Reason of its newest DLQ entry, if it ever had one.
        dlq_status: What became of that entry.
        links: Paths of the task, its `steps` and the `dlq`.
    """

    task_uuid: UUID
    namespace: str
    name: str
    version: str
    state: TaskState
    initiator: str
    source_system: str
    reason: str
    correlation_id: UUID
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    total_steps: int
    pending_steps: int
    in_progress_steps: int
    completed_steps: int
    failed_steps: int
    execution_status: str
    recommended_action: str | None
    completion_percentage: float
    health_status: str
    failure: TaskFailure | None
    cancellation: TaskCancellation | None
    template_steps: tuple[StepDefinition, ...]
    steps: tuple[StepSummary, ...]
    in_dlq: bool
    dlq_reason: DlqReason | None
    dlq_status: ResolutionStatus | None
    links: Mapping[str, str]
    omitted_steps: int
