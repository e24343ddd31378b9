"""Versions of templates: registered from text, and taken out of use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tasker.domain.errors import InvalidArgumentError
from tasker.domain.templates.findings import Finding, InvalidTemplateError, Report
from tasker.domain.templates.loading import load_documents, size_problem
from tasker.domain.templates.validation import validate
from tasker.orchestration.engine.arguments import check_texts
from tasker.orchestration.engine.catalogue import TemplateCatalogue
from tasker.persistence.database import Database
from tasker.persistence.operations.activate import activate_version, deactivate_version
from tasker.persistence.operations.register import register_template
from tasker.persistence.reading.templates import TemplateReader, TemplateVersion, VersionPage
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

_SOURCE: Final = "document"
_NAMES: Final[Mapping[str, int]] = {"namespace": 255, "name": 255, "version": 50}
_LENGTHS: Final[Mapping[str, int]] = {"requested_by": 255, "reason": 500}


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version as it is registered now.

    Attributes:
        version: The version.
        changed: Whether it had another document before, or none.
        warnings: What was accepted with a remark.
    """

    version: TemplateVersion
    changed: bool
    warnings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class ChosenVersion:
    """A version whose use was changed, and which version an empty one means now (None if none is active)."""

    version: TemplateVersion
    default_version: str | None


class TemplateVersions:
    """Registers, checks and lists versions of templates, and says which of them may be used.

    Args:
        database: Where they are.
        catalogue: What this orchestrator creates tasks from: it hears of changes at once, others by a notification.
    """

    def __init__(self, database: Database, catalogue: TemplateCatalogue) -> None:
        self._database = database
        self._catalogue = catalogue
        self._reader = TemplateReader(database)
        self._checking = asyncio.Lock()

    async def register(self, text: str, *, strict: bool = False) -> RegisteredVersion:
        """Register the template in a text, as a worker does with those in its files.

        Args:
            text: YAML or JSON, one document.
            strict: Whether an unknown key is an error.

        Raises:
            InvalidArgumentError: It is too long, or not one document.
            InvalidTemplateError: With everything wrong about it.
            TemplateInUseError: The version exists with another content and has unfinished tasks.
        """
        report = await self.check(text, strict=strict)
        template = report.template
        if template is None:
            raise InvalidTemplateError(report, source=_SOURCE)
        changed = await register_template(self._database, template)
        if changed:
            self._catalogue.forget()
            log.info("template_registered", template=template.key)
        version = await self._reader.version(template.namespace_name, template.name, template.version)
        return RegisteredVersion(version, changed, report.warnings)

    async def check(self, text: str, *, strict: bool = False) -> Report:
        """Return everything there is to say about the template in a text; nothing is written.

        Raises:
            InvalidArgumentError: It is too long, or not one document.
        """
        if not text.strip():
            raise InvalidArgumentError.of(_SOURCE, "required: a template as YAML or JSON")
        if problem := size_problem(len(text.encode())):
            raise InvalidArgumentError.of(_SOURCE, problem)
        # One at a time and beside the event loop, since it takes the processor for a while.
        async with self._checking:
            return await asyncio.to_thread(_check, text, strict=strict)

    async def page(
        self, namespace: str, name: str, *, below: str | None = None, skip: int = 0, limit: int
    ) -> VersionPage:
        """Return versions of a template, highest first, in use or not.

        Args:
            namespace: Its namespace.
            name: Its name.
            below: Only versions lower than this one.
            skip: Leave out so many of them.
            limit: How many at most.

        Raises:
            InvalidArgumentError: A name is missing.
            TemplateNotFoundError: There is no such template.
        """
        check_texts(_NAMES, {"namespace": namespace, "name": name}, required=True)
        return await self._reader.versions(namespace, name, below=below, skip=skip, limit=limit)

    async def deactivate(
        self,
        namespace: str,
        name: str,
        version: str,
        *,
        requested_by: str | None = None,
        reason: str | None = None,
    ) -> ChosenVersion:
        """Take a version out of use: it is no default, and no task is created of it. Those that run go on.

        One that is out of use already stays as it is, with what was said then.

        Raises:
            InvalidArgumentError: A name is missing, or a text is too long.
            TemplateNotFoundError: There is no such version.
        """
        said = {"requested_by": requested_by, "reason": reason}
        _check_key(namespace, name, version, said)
        changed = await deactivate_version(self._database, namespace, name, version, **said)
        return await self._chosen("template_deactivated", changed, namespace, name, version, said)

    async def activate(
        self,
        namespace: str,
        name: str,
        version: str,
        *,
        requested_by: str | None = None,
        reason: str | None = None,
    ) -> ChosenVersion:
        """Put a version into use again.

        Raises:
            InvalidArgumentError: A name is missing, or a text is too long.
            TemplateNotFoundError: There is no such version.
        """
        said = {"requested_by": requested_by, "reason": reason}
        _check_key(namespace, name, version, said)
        changed = await activate_version(self._database, namespace, name, version)
        return await self._chosen("template_activated", changed, namespace, name, version, said)

    async def _chosen(
        self,
        event: str,
        changed: bool,
        namespace: str,
        name: str,
        version: str,
        said: Mapping[str, str | None],
    ) -> ChosenVersion:
        found = await self._reader.version(namespace, name, version)
        if changed:
            self._catalogue.forget()
            log.warning(event, template=f"{namespace}/{name}:{version}", **said)
        active = await self._reader.known_versions(namespace, name)
        return ChosenVersion(found, active[0] if active else None)


def _check_key(namespace: str, name: str, version: str, said: Mapping[str, str | None]) -> None:
    check_texts(_NAMES, {"namespace": namespace, "name": name, "version": version}, required=True)
    check_texts(_LENGTHS, said)


def _check(text: str, *, strict: bool) -> Report:
    documents = load_documents(text, _SOURCE)
    if not documents:
        raise InvalidArgumentError.of(_SOURCE, "holds no template")
    if len(documents) > 1:
        raise InvalidArgumentError.of(
            _SOURCE, f"holds {len(documents)} documents; send each template by a call of its own"
        )
    return validate(documents[0], strict=strict)
