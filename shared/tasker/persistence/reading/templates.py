"""Reading registered templates: their versions, their revisions and what a listing shows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tasker.domain.errors import TemplateNotFoundError
from tasker.persistence.database import Database
from tasker.persistence.queries import Queries, statement

_TEMPLATE: Final = statement("template")
_VERSIONS: Final = statement("template_versions")
_SUMMARIES: Final = statement("template_summaries")
_NAMESPACES: Final = statement("namespaces")


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


@dataclass(frozen=True, slots=True)
class TemplateListing:
    """Template versions, and all namespaces as of the same moment."""

    namespaces: list[NamespaceSummary]
    templates: list[TemplateSummary]


class TemplateReader:
    """Answers questions about templates. Revisions are immutable; a version points at its current one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, namespace: str, name: str, version: str) -> StoredTemplate:
        """Return a template version; an empty version means the highest one.

        Raises:
            TemplateNotFoundError: With the versions there are.
        """
        async with self._database.snapshot() as snapshot:
            stored = await _find(snapshot, namespace, name, version)
            if stored is None:
                known_versions = await _versions(snapshot, namespace, name)
                raise TemplateNotFoundError(namespace, name, version, known_versions)
        return stored

    async def listing(self, namespace: str | None = None) -> TemplateListing:
        """Return all template versions, or those of a namespace, by name, highest version first; and all namespaces."""
        async with self._database.snapshot() as snapshot:
            return TemplateListing(
                await snapshot.fetch_all(NamespaceSummary, _NAMESPACES),
                await snapshot.fetch_all(TemplateSummary, _SUMMARIES, {"namespace": namespace}),
            )

    async def revision(self, template_digest: bytes) -> dict[str, Any] | None:
        """Return the document of a revision, current or not."""
        document: dict[str, Any] | None = await self._database.fetch_value(
            "SELECT template FROM tasker.template_revisions WHERE template_digest = %s", (template_digest,)
        )
        return document


async def _find(queries: Queries, namespace: str, name: str, version: str) -> StoredTemplate | None:
    return await queries.fetch_one(
        StoredTemplate, _TEMPLATE, {"namespace": namespace, "name": name, "version": version}
    )


async def _versions(queries: Queries, namespace: str, name: str) -> list[str]:
    return await queries.fetch_values(_VERSIONS, {"namespace": namespace, "name": name})
