"""Reading registered templates: their versions, their revisions and what a listing shows of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.errors import TemplateNotFoundError
from tasker.domain.templates.versions import TemplateDeactivatedError
from tasker.persistence.database import Database
from tasker.persistence.queries import Queries, statement

_TEMPLATE: Final = statement("template")
_KNOWN_VERSIONS: Final = statement("template_versions")
_VERSIONS: Final = statement("versions")
_SUMMARIES: Final = statement("template_summaries")
_NAMESPACES: Final = statement("namespaces")

#: Characters of a template's description in a listing; of a longer one there is the beginning.
MAX_LISTED_DESCRIPTION: Final = 1000


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A template version and its current revision; of one that is not `active` no task is created."""

    namespace_id: int
    named_task_uuid: UUID
    template_digest: bytes
    active: bool
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TemplateSummary:
    """A template version in a listing; of a long description there is the beginning."""

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
class LastTemplate:
    """The last template version of a page: the next page begins behind it."""

    namespace: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class TemplateListing:
    """Template versions, and all namespaces as of the same moment."""

    namespaces: list[NamespaceSummary]
    templates: list[TemplateSummary]

    def count(self, namespace: str | None = None) -> int:
        """Return how many template versions there are, in a namespace or in all."""
        return sum(each.template_count for each in self.namespaces if namespace in (None, each.name))


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """A version of a template, as those see it who choose which ones may be used.

    Attributes:
        active: Whether tasks can be created of it.
        is_default: Whether an empty version means it.
        digest: SHA-256 of its canonical document.
        registered_at: When the version was registered first.
        open_tasks: Its tasks that are not over, among the 10,000 newest of all templates.
        deactivated_at: When it was taken out of use; None while it is active, as are the next two.
        deactivated_by: Who did it.
        deactivation_reason: Why.
    """

    namespace: str
    name: str
    version: str
    active: bool
    is_default: bool
    digest: bytes
    registered_at: datetime
    open_tasks: int
    deactivated_at: datetime | None
    deactivated_by: str | None
    deactivation_reason: str | None


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Some of a template's versions, and how many there are."""

    total: int
    versions: list[TemplateVersion]


@dataclass(frozen=True, slots=True)
class _KnownVersion:
    version: str
    active: bool


class TemplateReader:
    """Answers questions about templates. Revisions are immutable; a version points at its current one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, namespace: str, name: str, version: str) -> StoredTemplate:
        """Return a template version, in use or not; an empty version means the highest one in use.

        Raises:
            TemplateDeactivatedError: None of its versions is in use.
            TemplateNotFoundError: With the versions there are in use.
        """
        async with self._database.snapshot() as snapshot:
            stored = await _find(snapshot, namespace, name, version)
            if stored is None:
                known = await _known(snapshot, namespace, name)
                active = [each.version for each in known if each.active]
                if known and not active and not version:
                    raise TemplateDeactivatedError(namespace, name, version)
                raise TemplateNotFoundError(namespace, name, version, active)
        return stored

    async def known_versions(self, namespace: str, name: str) -> list[str]:
        """Return the versions of a template that are in use, highest first."""
        known = await _known(self._database, namespace, name)
        return [each.version for each in known if each.active]

    async def versions(
        self, namespace: str, name: str, *, below: str | None = None, skip: int = 0, limit: int
    ) -> VersionPage:
        """Return versions of a template, highest first, in use or not.

        Args:
            namespace: Its namespace.
            name: Its name.
            below: Only versions lower than this one.
            skip: Leave out so many of them.
            limit: Return no more than this.

        Raises:
            TemplateNotFoundError: There is no such template.
        """
        async with self._database.snapshot() as snapshot:
            known = await _known(snapshot, namespace, name)
            if not known:
                raise TemplateNotFoundError(namespace, name, "")
            return VersionPage(
                len(known),
                await _page(snapshot, namespace, name, below=below, skip=skip, limit=limit),
            )

    async def version(self, namespace: str, name: str, version: str) -> TemplateVersion:
        """Return one version of a template, in use or not.

        Raises:
            TemplateNotFoundError: With the versions there are, in use or not.
        """
        async with self._database.snapshot() as snapshot:
            for found in await _page(snapshot, namespace, name, version=version):
                return found
            known = await _known(snapshot, namespace, name)
        raise TemplateNotFoundError(namespace, name, version, [each.version for each in known])

    async def listing(
        self,
        namespace: str | None = None,
        *,
        after: LastTemplate | None = None,
        skip: int = 0,
        limit: int | None = None,
    ) -> TemplateListing:
        """Return template versions by namespace and name, highest version first, and all namespaces.

        Args:
            namespace: Only those of this namespace.
            after: The last one of the page before.
            skip: Leave out so many of them.
            limit: Return no more than this; None for all.
        """
        params = {
            "namespace": namespace,
            "after_namespace": after.namespace if after else None,
            "after_name": after.name if after else None,
            "after_version": after.version if after else None,
            "skip": skip,
            "limit": limit,
            "longest_description": MAX_LISTED_DESCRIPTION,
        }
        async with self._database.snapshot() as snapshot:
            return TemplateListing(
                await snapshot.fetch_all(NamespaceSummary, _NAMESPACES),
                await snapshot.fetch_all(TemplateSummary, _SUMMARIES, params),
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


async def _known(queries: Queries, namespace: str, name: str) -> list[_KnownVersion]:
    return await queries.fetch_all(_KnownVersion, _KNOWN_VERSIONS, {"namespace": namespace, "name": name})


async def _page(
    queries: Queries,
    namespace: str,
    name: str,
    *,
    version: str | None = None,
    below: str | None = None,
    skip: int = 0,
    limit: int = 1,
) -> list[TemplateVersion]:
    return await queries.fetch_all(
        TemplateVersion,
        _VERSIONS,
        {
            "namespace": namespace,
            "name": name,
            "version": version,
            "below": below,
            "skip": skip,
            "limit": limit,
        },
    )
