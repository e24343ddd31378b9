"""Saying that somebody watches."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from tasker.persistence.queries import Queries

# Watchers that are long gone are forgotten by the way.
_ANNOUNCE: Final = """
    WITH gone AS (
        DELETE FROM tasker.watchers w WHERE w.expires_at < clock_timestamp() - interval '1 hour'
    )
    INSERT INTO tasker.watchers (watcher_uuid, steps, expires_at)
    VALUES (%(watcher)s, %(steps)s, clock_timestamp() + make_interval(secs => %(seconds)s))
    ON CONFLICT (watcher_uuid) DO UPDATE SET steps = excluded.steps, expires_at = excluded.expires_at
"""


async def announce_watcher(queries: Queries, watcher_uuid: UUID, *, steps: bool, seconds: float) -> None:
    """Have transactions hint their transitions for a while, on request those of steps, too."""
    await queries.execute(_ANNOUNCE, {"watcher": watcher_uuid, "steps": steps, "seconds": seconds})
