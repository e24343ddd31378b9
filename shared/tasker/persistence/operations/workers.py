"""Knowing the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tasker.persistence.queries import Queries

_REGISTER: Final = "SELECT tasker.register_worker_v1(%s, %s, %s, %s, %s, %s)"
_BEAT: Final = "SELECT tasker.beat_v1(%s, %s)"
_RETIRE: Final = "SELECT tasker.retire_worker_v1(%s)"


async def register_worker(
    queries: Queries,
    worker_uuid: UUID,
    *,
    hostname: str,
    version: str,
    namespaces: Sequence[str],
    handlers: Sequence[str],
    slots: int,
) -> None:
    """Announce a worker, what it serves and what it can run."""
    await queries.execute(
        _REGISTER, (worker_uuid, hostname, version, list(namespaces), list(handlers), slots)
    )


async def beat(queries: Queries, worker_uuid: UUID, *, slots_in_use: int) -> bool:
    """Say that a worker lives; False if whoever has locked the workers is in the way."""
    (noted,) = await queries.fetch_values(_BEAT, (worker_uuid, slots_in_use))
    return bool(noted)


async def retire_worker(queries: Queries, worker_uuid: UUID) -> None:
    """Say that a worker runs no more."""
    await queries.execute(_RETIRE, (worker_uuid,))
