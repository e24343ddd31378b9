"""Registered templates: their revisions, and their plans for an environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tasker.domain.errors import TemplateInUseError
from tasker.domain.templates.document import Template, digest
from tasker.domain.templates.plan import PlannedStep
from tasker.domain.uuids import uuid7
from tasker.persistence.connections import Connection
from tasker.persistence.database import Database
from tasker.persistence.statements import statement

_FIND_TEMPLATE: Final = statement("find_template")
_TEMPLATE_VERSIONS: Final = statement("template_versions")
_LIST_TEMPLATES: Final = statement("list_templates")
_LIST_NAMESPACES: Final = statement("list_namespaces")
_LOCK_NAMED_TASK: Final = statement("lock_named_task")
_POINT_NAMED_TASK: Final = statement("point_named_task")
_INSERT_REVISION: Final = statement("insert_revision")
_INSERT_STEP: Final = statement("insert_template_step")

#: Told to every process when a template version gets another revision.
TEMPLATE_CHANGED_CHANNEL: Final = "tasker_template_changed"


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A template version and its current revision."""

    namespace_id: int
    named_task_uuid: UUID
    template_digest: bytes
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TemplateSummary:
    """A template version in a listing."""

    namespace: str
    name: str
    version: str
    description: str | None
    step_count: int


@dataclass(frozen=True, slots=True)
class NamespaceSummary:
    """A namespace in a listing; `template_count` counts versions."""

    name: str
    description: str | None
    template_count: int


class TemplateStore:
    """Reads and writes templates. Revisions are immutable; a version points at its current one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, template: Template, *, force_overwrite: bool = False) -> bool:
        """Register a template, with its namespace and queue; return whether anything changed.

        Args:
            template: A valid template.
            force_overwrite: Replace a version even while tasks of it run; they keep their revision.

        Raises:
            TemplateInUseError: The version exists with another content and has unfinished tasks.
        """
        content = digest(template)
        async with self._database.transaction() as transaction:
            connection = transaction.connection
            namespace_id = await self._namespace_id(connection, template.namespace_name)
            current = await self._current(connection, namespace_id, template)
            if current is not None and current[1] == content:
                return False
            if current is not None and not force_overwrite:
                await self._refuse_if_in_use(connection, current[0], template)
            named_task_uuid = await self._point_at(connection, namespace_id, template, content)
            await connection.execute(
                _INSERT_REVISION,
                (content, named_task_uuid, Jsonb(template.to_json())),
            )
            await connection.execute(
                "SELECT tasker.ensure_queue_v1(%s)", (f"worker_{template.namespace_name}_queue",)
            )
            await connection.execute("SELECT pg_notify(%s, '')", (TEMPLATE_CHANGED_CHANNEL,))
        return True

    async def find(self, namespace: str, name: str, version: str) -> StoredTemplate | None:
        """Return a template version, or None; an empty version means the highest one."""
        if not version:
            version = next(iter(await self.versions(namespace, name)), "")
        row = await self._database.fetch_tuple(
            _FIND_TEMPLATE,
            (namespace, name, version),
        )
        return StoredTemplate(*row) if row else None

    async def versions(self, namespace: str, name: str) -> list[str]:
        """Return the registered versions of a template, highest first."""
        rows = await self._database.fetch_tuples(
            _TEMPLATE_VERSIONS,
            (namespace, name),
        )
        return [version for (version,) in rows]

    async def summaries(self, namespace: str | None = None) -> list[TemplateSummary]:
        """Return all template versions, or those of a namespace, by name, highest version first."""
        rows = await self._database.fetch_tuples(_LIST_TEMPLATES, {"namespace": namespace})
        return [TemplateSummary(*row) for row in rows]

    async def namespaces(self) -> list[NamespaceSummary]:
        """Return all namespaces by name."""
        return [NamespaceSummary(*row) for row in await self._database.fetch_tuples(_LIST_NAMESPACES)]

    async def revision(self, template_digest: bytes) -> dict[str, Any] | None:
        """Return the document of a revision, current or not."""
        row = await self._database.fetch_tuple(
            "SELECT template FROM tasker.template_revisions WHERE template_digest = %s", (template_digest,)
        )
        return row[0] if row else None

    async def ensure_plan(
        self, template_digest: bytes, environment: str, steps: Sequence[PlannedStep]
    ) -> None:
        """Store the plan of a revision for an environment, unless it is there."""
        async with self._database.transaction() as transaction:
            connection = transaction.connection
            await connection.cursor().executemany(
                _INSERT_STEP,
                [_plan_row(template_digest, environment, step) for step in steps],
            )

    async def _namespace_id(self, connection: Connection, name: str) -> int:
        await connection.execute(
            "INSERT INTO tasker.task_namespaces (name, created_at, updated_at) "
            "SELECT %s, n.now, n.now FROM tasker.now() AS n(now) ON CONFLICT DO NOTHING",
            (name,),
        )
        cursor = await connection.execute(
            "SELECT namespace_id FROM tasker.task_namespaces WHERE name = %s", (name,)
        )
        ((namespace_id,),) = await cursor.fetchall()
        return int(namespace_id)

    async def _current(
        self, connection: Connection, namespace_id: int, template: Template
    ) -> tuple[UUID, bytes] | None:
        cursor = await connection.execute(
            _LOCK_NAMED_TASK,
            (namespace_id, template.name, template.version),
        )
        row = await cursor.fetchone()
        return (row[0], bytes(row[1])) if row else None

    async def _refuse_if_in_use(
        self, connection: Connection, named_task_uuid: UUID, template: Template
    ) -> None:
        cursor = await connection.execute(
            "SELECT count(*) FROM tasker.tasks WHERE named_task_uuid = %s AND terminal_at IS NULL",
            (named_task_uuid,),
        )
        ((running,),) = await cursor.fetchall()
        if running:
            raise TemplateInUseError(template.namespace_name, template.name, template.version, running)

    async def _point_at(
        self, connection: Connection, namespace_id: int, template: Template, content: bytes
    ) -> UUID:
        cursor = await connection.execute(
            _POINT_NAMED_TASK,
            (
                uuid7(),
                namespace_id,
                template.name,
                template.version,
                template.description,
                template.identity_strategy.value,
                content,
            ),
        )
        ((named_task_uuid,),) = await cursor.fetchall()
        return UUID(str(named_task_uuid))


def _plan_row(template_digest: bytes, environment: str, step: PlannedStep) -> tuple[Any, ...]:
    return (
        template_digest,
        environment,
        step.position,
        step.name,
        step.step_type.value,
        step.callable,
        Jsonb(dict(step.initialization)) if step.initialization else None,
        step.initial,
        step.retryable,
        step.max_attempts,
        step.backoff.value,
        step.backoff_base_ms,
        step.max_backoff_ms,
        step.timeout_seconds,
        step.on_worker_lost.value,
        list(step.parent_positions),
        list(step.ancestor_positions),
    )
