"""Which versions of templates are in use: an operator takes them out of it, and back."""

from __future__ import annotations

from typing import Final

from tasker.persistence.database import Database
from tasker.persistence.operations.register import TEMPLATE_CHANGED_CHANNEL

_DEACTIVATE: Final = """
    UPDATE tasker.named_tasks t
    SET active = false, deactivated_at = n.now, deactivated_by = %(requested_by)s, deactivation_reason = %(reason)s,
        updated_at = n.now
    FROM (SELECT tasker.now()) AS n(now)
    WHERE t.namespace_id = (SELECT namespace_id FROM tasker.task_namespaces WHERE name = %(namespace)s)
      AND t.name = %(name)s AND t.version = %(version)s AND t.active
    RETURNING t.named_task_uuid
"""
_ACTIVATE: Final = """
    UPDATE tasker.named_tasks t
    SET active = true, deactivated_at = NULL, deactivated_by = NULL, deactivation_reason = NULL,
        updated_at = tasker.now()
    WHERE t.namespace_id = (SELECT namespace_id FROM tasker.task_namespaces WHERE name = %(namespace)s)
      AND t.name = %(name)s AND t.version = %(version)s AND NOT t.active
    RETURNING t.named_task_uuid
"""


async def deactivate_version(
    database: Database,
    namespace: str,
    name: str,
    version: str,
    *,
    requested_by: str | None,
    reason: str | None,
) -> bool:
    """Take a version out of use: no task is created of it any more. Return whether it was in use."""
    facts = {"requested_by": requested_by, "reason": reason}
    return await _change(database, _DEACTIVATE, namespace, name, version, facts)


async def activate_version(database: Database, namespace: str, name: str, version: str) -> bool:
    """Put a version into use again; return whether it was out of use."""
    return await _change(database, _ACTIVATE, namespace, name, version, {})


async def _change(
    database: Database, statement: str, namespace: str, name: str, version: str, facts: dict[str, str | None]
) -> bool:
    async with database.transaction() as transaction:
        changed = await transaction.fetch_value(
            statement, {"namespace": namespace, "name": name, "version": version, **facts}
        )
        if changed is not None:
            await transaction.execute("SELECT pg_notify(%s, '')", (TEMPLATE_CHANGED_CHANNEL,))
    return changed is not None
