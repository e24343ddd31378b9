"""Submitting results for workers that are lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tasker.domain.retry import LEASE
from tasker.persistence.queries import Queries

_LOOK: Final = "SELECT * FROM tasker.any_expired_leases_v1()"
_SWEEP: Final = "SELECT tasker.sweep_leases_v1(%s, %s)"


@dataclass(frozen=True, slots=True)
class Leases:
    """What a look at the leases came to.

    Attributes:
        instant: When.
        expired: Whether any has ended.
    """

    instant: datetime
    expired: bool


async def look_at_leases(queries: Queries) -> Leases:
    """Tell whether a sweep would find anything."""
    found = await queries.fetch_one(Leases, _LOOK)
    assert found is not None  # it returns one row
    return found


async def sweep_leases(queries: Queries, limit: int) -> int:
    """Submit `worker_lost` for up to `limit` steps whose lease has expired; return for how many."""
    return int(await queries.fetch_value(_SWEEP, (limit, LEASE)))
