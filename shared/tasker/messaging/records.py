"""What passes between an engine and its broker, one record a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID


@dataclass(slots=True)
class ClaimedStep:
    """A step handed to this worker, with all that its handler needs.

    Attributes:
        attempt: Executions including this one, from 1.
        context: The task's context.
        dependencies: Results of all ancestors, by step name.
        hydrated: Whether context and dependencies are there. Together they may be too large for the claim; then
            they are None and empty until the broker's `hydrate` has fetched them.
        lease_token: What fences its result.
    """

    lease_token: UUID
    task_uuid: UUID
    step_uuid: UUID
    name: str
    template_step_name: str
    handler: str
    namespace: str
    template_digest: bytes
    correlation_id: UUID
    attempt: int
    max_attempts: int
    timeout_seconds: int | None
    inputs: dict[str, Any] | None
    checkpoint: dict[str, Any] | None
    context: dict[str, Any] | None
    dependencies: dict[str, Any]
    hydrated: bool

    @property
    def lease(self) -> Lease:
        """What to show to renew its lease, and with its result."""
        return Lease(self.task_uuid, self.step_uuid, self.lease_token)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a step for a while, as a worker shows it."""

    task_uuid: UUID
    step_uuid: UUID
    lease_token: UUID


@dataclass(frozen=True, slots=True)
class ResultToSubmit:
    """What an execution produced.

    Attributes:
        lease: What its step ran under; if that is lost by now, the result is refused.
        payload: The result as JSON text.
    """

    lease: Lease
    payload: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call of a result loop did.

    Attributes:
        handled: Messages processed.
        delayed: Messages put back for a moment because their task was busy.
    """

    handled: int
    delayed: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A task the reconciler looked at.

    Attributes:
        drift: What it kept wrongly, by name; None when all was right.
        resent: Steps whose message was gone and was sent again.
    """

    task_uuid: UUID
    drift: dict[str, Any] | None
    resent: int


@dataclass(frozen=True, slots=True)
class DeletedTasks:
    """What one batch of retention did.

    Attributes:
        last_uuid: The youngest task it looked at; None when there is none behind it that may be old enough.
        rows: How many rows of each table went.
    """

    last_uuid: UUID | None
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class SubmittedStep:
    """A submitted step that needs judgement, with its newest result; its task is locked.

    Attributes:
        inputs, checkpoint: Of instances of batches only.
    """

    task_uuid: UUID
    step_uuid: UUID
    name: str
    step_type: str
    state: str
    attempts: int
    max_attempts: int
    retryable: bool
    on_worker_lost: str
    backoff: str
    backoff_base_ms: int
    max_backoff_ms: int
    success: bool | None
    status: str | None
    result: Any
    error: dict[str, Any] | None
    metadata: dict[str, Any] | None
    orchestration_metadata: dict[str, Any] | None
    judged_at: datetime
    inputs: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AppliedVerdict:
    """What becomes of a submitted step.

    Attributes:
        verdict: `complete`, `retry`, `error`, or `none` where only the task is to be evaluated.
        delay_seconds: How long a retry waits.
        reason: Kept with the transition.
        replacement: A result that takes the place of the submitted one: `result`, `error` and `metadata` as stored.
    """

    task_uuid: UUID
    step_uuid: UUID
    verdict: str
    delay_seconds: float | None = None
    reason: str | None = None
    replacement: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TaskStep:
    """A step of a held task, as far as what to add to the task depends on it."""

    task_uuid: UUID
    template_digest: bytes
    step_uuid: UUID
    name: str
    template_step_name: str
    state: str
    ancestor_uuids: list[UUID]


@dataclass(frozen=True, slots=True)
class StepToAdd:
    """A step to add to a running task.

    Attributes:
        parents: The steps it waits for.
        edges: The name of the edge from each parent.
        ancestors: The steps whose results it sees.
        inputs: JSON text; None takes those of the plan.
        batch_step_uuid: The step that split the work, for an instance of a batch; None otherwise, as the next two.
        batch_parallelism: How many of its instances may be in flight at once.
        batch_fail_fast: Whether one that failed holds back those that have not begun.
    """

    task_uuid: UUID
    step_uuid: UUID
    name: str
    template_step_name: str
    step_type: str
    parents: Sequence[UUID]
    edges: Sequence[str]
    ancestors: Sequence[UUID]
    inputs: str | None = None
    batch_step_uuid: UUID | None = None
    batch_parallelism: int | None = None
    batch_fail_fast: bool | None = None


@dataclass(frozen=True, slots=True)
class TaskToCreate:
    """A validated task on its way into the database.

    Attributes:
        identity: SHA-256 of what makes it unique; None when nothing does.
        context: JSON text.
        step_uuids: One for every planned position of the template.
        ttl: How long the task may take; None for as long as it likes.
    """

    task_uuid: UUID
    namespace_id: int
    named_task_uuid: UUID
    template_digest: bytes
    identity: bytes | None
    priority: int
    correlation_id: UUID
    parent_correlation_id: UUID | None
    initiator: str
    source_system: str
    reason: str
    tags: tuple[str, ...]
    context: str
    step_uuids: tuple[UUID, ...]
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CreatedTask:
    """What became of it: created and started at an instant, or refused for the sake of an existing task."""

    task_uuid: UUID
    existing_uuid: UUID | None
    created_at: datetime | None
    updated_at: datetime | None
