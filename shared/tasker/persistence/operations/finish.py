"""Finishing steps: results are submitted, completed at once where that can be, and followed by the next claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

from tasker.domain.retry import LEASE
from tasker.domain.storable import json_array
from tasker.persistence.operations.claim import HYDRATION_BYTES, ClaimedStep
from tasker.persistence.operations.submit import ResultToSubmit
from tasker.persistence.queries import Queries

_FINISH: Final = """
    SELECT f.*, %(lease_token)s AS lease_token
    FROM tasker.finish_steps_v1(
        %(tasks)s::uuid[], %(steps)s::uuid[], %(tokens)s::uuid[], %(results)s::text::jsonb, %(successes)s::uuid[],
        %(repeated)s, %(queues)s, %(limit)s, %(worker_uuid)s, %(lease_token)s, %(lease)s, %(handlers)s,
        %(hydration_bytes)s) AS f
"""


@dataclass(slots=True)
class NextClaims:
    """What may be claimed of the steps that become ready.

    Attributes:
        limit: No more than this.
        queues: Those that the worker serves.
        handlers: What it can run.
        lease_token: Of all these claims; known beforehand, so that a call whose reply was lost can be repeated.
        repeated: Whether such a call may have been made.
    """

    limit: int
    queues: Sequence[str]
    handlers: Sequence[str]
    lease_token: UUID = field(default_factory=uuid4)
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class FinishedSteps:
    """The steps whose result was accepted, and those that were claimed with them."""

    accepted: set[UUID]
    claimed: list[ClaimedStep]


async def finish_steps(
    queries: Queries, worker_uuid: UUID, results: Sequence[ResultToSubmit], claims: NextClaims
) -> FinishedSteps:
    """Submit results, complete the plain successes whose task is free, and claim what follows."""
    try:
        accepted, *claimed = await queries.fetch_all(_row, _FINISH, _arguments(worker_uuid, results, claims))
    except Exception:
        claims.repeated = True  # who tries again may do so after a commit
        raise
    assert isinstance(accepted, set)
    return FinishedSteps(accepted, [claim for claim in claimed if isinstance(claim, ClaimedStep)])


def _arguments(worker_uuid: UUID, results: Sequence[ResultToSubmit], claims: NextClaims) -> Mapping[str, Any]:
    return {
        "tasks": [result.lease.task_uuid for result in results],
        "steps": [result.lease.step_uuid for result in results],
        "tokens": [result.lease.lease_token for result in results],
        "results": json_array(result.payload for result in results),
        "successes": [result.lease.task_uuid for result in results if result.success],
        "repeated": claims.repeated,
        "queues": list(claims.queues),
        "limit": claims.limit,
        "worker_uuid": worker_uuid,
        "lease_token": claims.lease_token,
        "lease": LEASE,
        "handlers": list(claims.handlers),
        "hydration_bytes": HYDRATION_BYTES,
    }


def _row(*, accepted: list[UUID] | None, **claim: Any) -> set[UUID] | ClaimedStep:
    return ClaimedStep(**claim) if accepted is None else set(accepted)
