"""Submitting results for workers that are lost."""

from __future__ import annotations

from typing import Final

from tasker.domain.retry import LEASE
from tasker.persistence.queries import Queries

_SWEEP: Final = "SELECT tasker.sweep_leases_v1(%s, %s)"


async def sweep_leases(queries: Queries, limit: int) -> int:
    """Submit `worker_lost` for up to `limit` steps whose lease has expired; return for how many."""
    return int(await queries.fetch_value(_SWEEP, (limit, LEASE)))
