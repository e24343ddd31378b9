"""Pausing namespaces: nobody claims their steps until they are resumed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tasker.persistence.queries import Queries

_PAUSE: Final = """
    SELECT namespace, paused_at, requested_by, reason, changed FROM tasker.pause_namespace_v1(%s, %s, %s)
"""
_RESUME: Final = "SELECT known, changed FROM tasker.resume_namespace_v1(%s)"


@dataclass(frozen=True, slots=True)
class Paused:
    """A namespace that is paused.

    Attributes:
        changed: Whether it is so now, rather than before.
    """

    namespace: str
    paused_at: datetime
    requested_by: str
    reason: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """A namespace that was to be resumed.

    Attributes:
        known: Whether there is one of this name.
        changed: Whether it was paused.
    """

    known: bool
    changed: bool


async def pause_namespace(
    queries: Queries, namespace: str, *, requested_by: str, reason: str
) -> Paused | None:
    """Stop workers from claiming steps of a namespace; return None if there is none of this name."""
    return await queries.fetch_one(Paused, _PAUSE, (namespace, requested_by, reason))


async def resume_namespace(queries: Queries, namespace: str) -> Resumed:
    """Let workers claim steps of a namespace again."""
    resumed = await queries.fetch_one(Resumed, _RESUME, (namespace,))
    assert resumed is not None
    return resumed
