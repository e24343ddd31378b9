"""The engine's clock."""

from __future__ import annotations

from datetime import datetime

from tasker.persistence.queries import Queries


async def now(queries: Queries) -> datetime:
    """Return the instant that the engine's functions would act at."""
    instant: datetime = await queries.fetch_value("SELECT tasker.now()")
    return instant
