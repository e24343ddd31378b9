"""Registering templates: a version points at its current revision; revisions and their plans are immutable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.errors import TemplateInUseError
from tasker.domain.templates.document import Template, digest
from tasker.domain.templates.offers import offer
from tasker.domain.templates.plan import PlannedStep
from tasker.domain.uuids import uuid7
from tasker.persistence.database import Database
from tasker.persistence.operations.queues import ensure_queue
from tasker.persistence.queries import Queries

#: Told to every process when a template version gets another revision.
TEMPLATE_CHANGED_CHANNEL: Final = "tasker_template_changed"

_ADD_NAMESPACE: Final = """
    INSERT INTO tasker.task_namespaces (name, created_at, updated_at)
    SELECT %(namespace)s, n.now, n.now FROM tasker.now() AS n(now)
    ON CONFLICT DO NOTHING
"""
_NAMESPACE_ID: Final = "SELECT namespace_id FROM tasker.task_namespaces WHERE name = %(namespace)s"
_LOCK_VERSION: Final = """
    SELECT named_task_uuid, template_digest
    FROM tasker.named_tasks
    WHERE namespace_id = %(namespace_id)s AND name = %(name)s AND version = %(version)s
    FOR UPDATE
"""
_UNFINISHED_TASKS: Final = """
    SELECT count(*) FROM tasker.tasks WHERE named_task_uuid = %(named_task_uuid)s AND terminal_at IS NULL
"""
# The version is made when it is new.
_POINT_VERSION: Final = """
    INSERT INTO tasker.named_tasks AS t (
        named_task_uuid, namespace_id, name, version, description, identity_strategy, template_digest, created_at,
        updated_at)
    SELECT %(named_task_uuid)s, %(namespace_id)s, %(name)s, %(version)s, %(description)s, %(identity_strategy)s,
           %(digest)s, n.now, n.now
    FROM tasker.now() AS n(now)
    ON CONFLICT (namespace_id, name, version) DO UPDATE
    SET description = excluded.description, identity_strategy = excluded.identity_strategy,
        template_digest = excluded.template_digest, updated_at = excluded.updated_at
    RETURNING named_task_uuid
"""
# An equal revision is the same.
_ADD_REVISION: Final = """
    INSERT INTO tasker.template_revisions (template_digest, named_task_uuid, template, created_at)
    VALUES (%(digest)s, %(named_task_uuid)s, %(template)s, tasker.now())
    ON CONFLICT DO NOTHING
"""
_ADD_PLAN: Final = """
    INSERT INTO tasker.template_steps (
        template_digest, environment, position, name, step_type, handler, inputs, initial, retryable, max_attempts,
        backoff, backoff_base_ms, max_backoff_ms, timeout_seconds, on_worker_lost, parents, ancestors)
    SELECT %(digest)s, %(environment)s, s.position, s.name, s.step_type, s.handler, s.inputs, s.initial, s.retryable,
           s.max_attempts, s.backoff, s.backoff_base_ms, s.max_backoff_ms, s.timeout_seconds, s.on_worker_lost,
           s.parents, s.ancestors
    FROM jsonb_populate_recordset(NULL::tasker.template_steps, %(steps)s) s
    ON CONFLICT (template_digest, environment, position) DO UPDATE
    SET handler = excluded.handler WHERE template_steps.handler <> excluded.handler  -- what an older release planned
"""


@dataclass(frozen=True, slots=True)
class _Version:
    """A template version as it is registered now."""

    named_task_uuid: UUID
    template_digest: bytes


async def register_template(database: Database, template: Template, *, force_overwrite: bool = False) -> bool:
    """Register a template, with its namespace and queue; return whether anything changed.

    A version that somebody has taken out of use stays so: a worker that starts with an old file does not bring it back.

    Args:
        database: Where.
        template: A valid template.
        force_overwrite: Replace a version even while tasks of it run; they keep their revision.

    Raises:
        TemplateInUseError: The version exists with another content and has unfinished tasks.
    """
    content = digest(template)
    async with database.transaction() as transaction:
        namespace_id = await _namespace_id(transaction, template.namespace_name)
        current = await transaction.fetch_one(
            _Version,
            _LOCK_VERSION,
            {"namespace_id": namespace_id, "name": template.name, "version": template.version},
        )
        if current is not None and current.template_digest == content:
            return False
        if current is not None and not force_overwrite:
            await _refuse_if_in_use(transaction, current.named_task_uuid, template)
        named_task_uuid = await _point_version(transaction, namespace_id, template, content)
        await transaction.execute(
            _ADD_REVISION,
            {"digest": content, "named_task_uuid": named_task_uuid, "template": Jsonb(template.to_json())},
        )
        await ensure_queue(transaction, f"worker_{template.namespace_name}_queue")
        await transaction.execute("SELECT pg_notify(%s, '')", (TEMPLATE_CHANGED_CHANNEL,))
    return True


async def store_plan(
    queries: Queries, template_digest: bytes, environment: str, steps: Sequence[PlannedStep]
) -> None:
    """Store the plan of a revision for an environment, unless it is there."""
    columns = Jsonb([_columns(step) for step in steps])
    await queries.execute(
        _ADD_PLAN, {"digest": template_digest, "environment": environment, "steps": columns}
    )


async def _namespace_id(queries: Queries, namespace: str) -> int:
    await queries.execute(_ADD_NAMESPACE, {"namespace": namespace})
    return int(await queries.fetch_value(_NAMESPACE_ID, {"namespace": namespace}))


async def _refuse_if_in_use(queries: Queries, named_task_uuid: UUID, template: Template) -> None:
    running = await queries.fetch_value(_UNFINISHED_TASKS, {"named_task_uuid": named_task_uuid})
    if running:
        raise TemplateInUseError(template.namespace_name, template.name, template.version, running)


async def _point_version(queries: Queries, namespace_id: int, template: Template, content: bytes) -> UUID:
    named_task_uuid: UUID = await queries.fetch_value(
        _POINT_VERSION,
        {
            "named_task_uuid": uuid7(),
            "namespace_id": namespace_id,
            "name": template.name,
            "version": template.version,
            "description": template.description,
            "identity_strategy": template.identity_strategy.value,
            "digest": content,
        },
    )
    return named_task_uuid


def _columns(step: PlannedStep) -> dict[str, Any]:
    return {
        "position": step.position,
        "name": step.name,
        "step_type": step.step_type.value,
        "handler": offer(step.callable, step.method, step.resolver),
        "inputs": dict(step.initialization) if step.initialization else None,
        "initial": step.initial,
        "retryable": step.retryable,
        "max_attempts": step.max_attempts,
        "backoff": step.backoff.value,
        "backoff_base_ms": step.backoff_base_ms,
        "max_backoff_ms": step.max_backoff_ms,
        "timeout_seconds": step.timeout_seconds,
        "on_worker_lost": step.on_worker_lost.value,
        "parents": list(step.parent_positions),
        "ancestors": list(step.ancestor_positions),
    }
