"""Which versions of templates are in use: an operator takes them out of it, and back."""

from __future__ import annotations

from typing import Final

from tasker.persistence.queries import Queries

_DEACTIVATE: Final = "SELECT tasker.deactivate_version_v1(%s, %s, %s, %s, %s)"
_ACTIVATE: Final = "SELECT tasker.activate_version_v1(%s, %s, %s)"


async def deactivate_version(
    queries: Queries, namespace: str, name: str, version: str, *, requested_by: str | None, reason: str | None
) -> bool:
    """Take a version out of use: no task is created of it any more. Return whether it was in use."""
    return bool(await queries.fetch_value(_DEACTIVATE, (namespace, name, version, requested_by, reason)))


async def activate_version(queries: Queries, namespace: str, name: str, version: str) -> bool:
    """Put a version into use again; return whether it was out of use."""
    return bool(await queries.fetch_value(_ACTIVATE, (namespace, name, version)))
