"""Taking results that need judgement, and applying the verdicts on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.persistence.queries import Transaction

_TAKE: Final = """
    SELECT top_msg_id, delayed, task_uuid, step_uuid, name, step_type, state, attempts, max_attempts, losses,
           forgiven_attempts, retryable, on_worker_lost, backoff, backoff_base_ms, max_backoff_ms, success, status,
           result, error, metadata, orchestration AS orchestration_metadata, judged_at, inputs, checkpoint
    FROM tasker.take_judgements_v1(%s, %s, %s)
"""
_APPLY: Final = "SELECT tasker.apply_verdicts_v1(%s::text::jsonb)"


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
    losses: int
    forgiven_attempts: int
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
class Judgements:
    """Submitted steps to judge.

    Attributes:
        steps: What was submitted; a step whose message was delivered twice is there twice.
        delayed: How many messages were put back because their task is busy.
        top_msg_id: The highest id among the messages that were read; None if there were none.
    """

    steps: Sequence[SubmittedStep]
    delayed: int
    top_msg_id: int | None


@dataclass(frozen=True, slots=True)
class StepVerdict:
    """What becomes of a submitted step.

    Attributes:
        verdict: `complete`, `retry`, `error`, or `none` where only the task is to be evaluated. SQL knows one more,
            `poison`, for what is recorded as such.
        delay_seconds: How long a retry waits.
        forgiven: Whether the attempt does not count.
        lost: Whether the step has lost a worker while it ran.
        reason: Kept with the transition.
        replacement: A result that takes the place of the submitted one: `result`, `error` and `metadata` as stored.
    """

    task_uuid: UUID
    step_uuid: UUID
    verdict: str
    delay_seconds: float | None = None
    forgiven: bool = False
    lost: bool = False
    reason: str | None = None
    replacement: Mapping[str, Any] | None = None


class _TakenRow:
    """How the taking went, in each row, and a step, unless there was none."""

    def __init__(
        self, *, top_msg_id: int | None, delayed: int, step_uuid: UUID | None, **of_step: Any
    ) -> None:
        self.top_msg_id = top_msg_id
        self.delayed = delayed
        self.step = None if step_uuid is None else SubmittedStep(step_uuid=step_uuid, **of_step)


async def take_judgements(
    transaction: Transaction, limit: int, *, low_water: int, only: int | None = None
) -> Judgements:
    """Take up to `limit` results that need judgement; their tasks are locked from now on.

    Args:
        transaction: Where `apply_verdicts` follows.
        limit: No more than this.
        low_water: The message above which to read.
        only: The one message to take, in the search for poison.
    """
    rows = await transaction.fetch_all(_TakenRow, _TAKE, (limit, low_water, only))
    return Judgements([row.step for row in rows if row.step is not None], rows[0].delayed, rows[0].top_msg_id)


async def apply_verdicts(transaction: Transaction, verdicts: Sequence[StepVerdict]) -> None:
    """Apply verdicts on steps whose tasks are locked, and advance the tasks."""
    await transaction.execute(_APPLY, (json.dumps([_verdict_object(verdict) for verdict in verdicts]),))


def _verdict_object(verdict: StepVerdict) -> dict[str, Any]:
    """Return the object that judge_by_ids_v1 reads."""
    return {
        "task_uuid": str(verdict.task_uuid),
        "step_uuid": str(verdict.step_uuid),
        "verdict": verdict.verdict,
        "delay_seconds": verdict.delay_seconds,
        "forgiven": verdict.forgiven,
        "lost": verdict.lost,
        "reason": verdict.reason,
        "replacement": verdict.replacement,
    }
