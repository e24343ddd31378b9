"""Storing how far steps have come."""

from __future__ import annotations

from typing import Any, Final

from tasker.domain.retry import LEASE
from tasker.persistence.operations.renew import Lease
from tasker.persistence.queries import Queries

_CHECKPOINT: Final = "SELECT tasker.checkpoint_step_v1(%s, %s, %s, %s, %s::text::jsonb)"


async def checkpoint_step(queries: Queries, lease: Lease, checkpoint: str) -> dict[str, Any] | None:
    """Store how far a step has come, as JSON text, and renew its lease.

    Returns:
        The checkpoint as it is stored; None if the lease is lost.
    """
    stored: dict[str, Any] | None = await queries.fetch_value(
        _CHECKPOINT, (lease.task_uuid, lease.step_uuid, lease.lease_token, LEASE, checkpoint)
    )
    return stored
