"""Reading what the services of a database share and nobody else may know."""

from __future__ import annotations

from tasker.persistence.queries import Queries


async def page_token_key(queries: Queries) -> bytes:
    """Return the key of page tokens: one for all orchestrators, so that each reads the tokens of the others."""
    key: bytes = await queries.fetch_value("SELECT value FROM tasker.secrets WHERE name = 'page_tokens'")
    return key
