"""Putting tasks before a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tasker.persistence.queries import Queries

_ADD_UNSERVED: Final = "SELECT namespace, tasks FROM tasker.add_unserved_entries_v1(%s, %s)"


@dataclass(frozen=True, slots=True)
class UnservedNamespace:
    """A namespace that no live worker serves, and how many of its tasks got an entry."""

    namespace: str
    tasks: int


async def add_unserved_entries(queries: Queries, grace: timedelta, limit: int) -> list[UnservedNamespace]:
    """Make entries for up to `limit` tasks of which a step has been queued for `grace` with no live worker."""
    return await queries.fetch_all(UnservedNamespace, _ADD_UNSERVED, (grace, limit))
