"""Claiming steps: they are handed to a worker, with all that their handlers need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from tasker.domain.errors import TaskerError
from tasker.domain.retry import LEASE
from tasker.persistence.operations.renew import Lease
from tasker.persistence.queries import Queries

#: The results that one step may see together, as JSON text: they are all in the worker's memory at once.
MAX_DEPENDENCY_BYTES: Final = 64 * 1024 * 1024
#: Context and dependency results that together take up to this travel with the claim; else they are fetched.
HYDRATION_BYTES: Final = 64 * 1024

_CLAIM: Final = """
    SELECT c.*, %(lease_token)s AS lease_token
    FROM tasker.claim_steps_v1(
        %(queues)s, %(low_waters)s::bigint[], %(limit)s, %(worker_uuid)s, %(lease_token)s, %(lease)s, %(handlers)s,
        %(refusal_limit)s, %(hydration_bytes)s, %(only)s) AS c
"""
_HYDRATE: Final = "SELECT context, dependencies, bytes, steps FROM tasker.hydrate_step_v2(%s, %s, %s)"


@dataclass(slots=True)
class ClaimedStep:
    """A step handed to this worker, with all that its handler needs.

    Attributes:
        attempt: Executions including this one, from 1.
        suspect: Whether it has lost so many workers that it shall run alone.
        context: The task's context.
        dependencies: Results of all ancestors, by step name.
        hydrated: Whether context and dependencies are there. Together they may be too large for the claim; then
            they are None and empty until `hydrate_step` has fetched them.
        lease_token: What fences its result.
        queue: Where its message was; empty if it was claimed without one, by whoever made it ready.
        msg_id: The highest id among the messages that were taken from there with its own.
    """

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
    suspect: bool
    inputs: dict[str, Any] | None
    checkpoint: dict[str, Any] | None
    context: dict[str, Any] | None
    dependencies: dict[str, Any]
    hydrated: bool
    lease_token: UUID
    queue: str = ""
    msg_id: int = 0

    @property
    def lease(self) -> Lease:
        """What to show to renew its lease, and with its result."""
        return Lease(self.task_uuid, self.step_uuid, self.lease_token)


@dataclass(frozen=True, slots=True)
class _Hydration:
    """What may be too large to travel with a claim."""

    context: dict[str, Any]
    dependencies: dict[str, Any] | None
    bytes: int
    steps: int


class DependenciesTooLargeError(TaskerError):
    """What a step would see is too much for a worker's memory; running it again changes nothing."""

    reason = "DEPENDENCIES_TOO_LARGE"

    def __init__(self, size: int, steps: int) -> None:
        self.size = size
        self.steps = steps
        super().__init__(
            f"the results of the {steps} steps that this one descends from take {_mib(size)} MiB together, maximum "
            f"{_mib(MAX_DEPENDENCY_BYTES)} MiB; keep the data elsewhere, and return where it is"
        )


async def claim_steps(
    queries: Queries,
    queues: Sequence[str],
    handlers: Sequence[str],
    limit: int,
    *,
    low_waters: Sequence[int],
    worker_uuid: UUID,
    refusal_limit: timedelta,
    only: int | None = None,
) -> list[ClaimedStep]:
    """Claim up to `limit` steps, from the first queues first.

    Args:
        queries: Where.
        queues: The queues to look at.
        handlers: What the worker can run; a step with another handler goes back with a delay.
        limit: No more than this.
        low_waters: The message of each queue above which to read.
        worker_uuid: Who claims.
        refusal_limit: A step that has been put back for this long, with no live worker to take it, is claimed to fail.
        only: The one message to take, in the search for poison.
    """
    return await queries.fetch_all(
        ClaimedStep,
        _CLAIM,
        {
            "queues": list(queues),
            "low_waters": list(low_waters),
            "limit": limit,
            "worker_uuid": worker_uuid,
            "lease_token": uuid4(),
            "lease": LEASE,
            "handlers": list(handlers),
            "refusal_limit": refusal_limit,
            "hydration_bytes": HYDRATION_BYTES,
            "only": only,
        },
    )


async def hydrate_step(queries: Queries, step: ClaimedStep) -> None:
    """Fetch the context and dependency results that were too large to travel with the claim.

    Raises:
        DependenciesTooLargeError: The results take more than `MAX_DEPENDENCY_BYTES`.
    """
    hydration = await queries.fetch_one(
        _Hydration, _HYDRATE, (step.task_uuid, step.step_uuid, MAX_DEPENDENCY_BYTES)
    )
    if hydration is not None:  # else its task is gone
        if hydration.dependencies is None:
            raise DependenciesTooLargeError(hydration.bytes, hydration.steps)
        step.context = hydration.context
        step.dependencies = hydration.dependencies
    step.hydrated = True


def _mib(size: int) -> int:
    return -(-size // (1024 * 1024))
