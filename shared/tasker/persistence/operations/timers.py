"""Timers that are due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tasker.persistence.queries import Queries

_FIRE: Final = """
    SELECT woken, next_due_ms / 1000 AS next_due_seconds, expired FROM tasker.fire_timers_v1(%s)
"""


@dataclass(frozen=True, slots=True)
class FiredTimers:
    """What one call came to.

    Attributes:
        woken: How many tasks were due.
        next_due_seconds: In how long the next one is; None if no timer is set.
        expired: Those among them that were cancelled since their time is up.
    """

    woken: int
    next_due_seconds: float | None
    expired: list[UUID]


async def fire_timers(queries: Queries, limit: int) -> FiredTimers:
    """Look again at up to `limit` tasks whose timer is due, and cancel those that have expired."""
    fired = await queries.fetch_one(FiredTimers, _FIRE, (limit,))
    assert fired is not None
    return fired
