"""The templates an orchestrator creates tasks from, ready to use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from tasker.domain.context import ContextRules, InputValidation
from tasker.domain.errors import (
    TemplateNotFoundError,
    UnknownTemplateError,
)
from tasker.domain.templates.versions import TemplateDeactivatedError
from tasker.orchestration.engine.revisions import PlannedRevision
from tasker.persistence.database import Database
from tasker.persistence.reading.revisions import Revisions
from tasker.persistence.reading.templates import StoredTemplate, TemplateReader

_CAPACITY: Final = 1000


@dataclass(frozen=True, slots=True)
class RegisteredTemplate:
    """A template version and its current revision."""

    namespace_id: int
    named_task_uuid: UUID
    revision: PlannedRevision
    context_rules: ContextRules


class TemplateCatalogue:
    """Looks templates up by name and keeps them until somebody registers a change."""

    def __init__(
        self,
        database: Database,
        revisions: Revisions[PlannedRevision],
        *,
        input_validation: InputValidation = InputValidation.ENFORCE,
    ) -> None:
        self._templates = TemplateReader(database)
        self._revisions = revisions
        self._input_validation = input_validation
        self._known: dict[tuple[str, str, str], RegisteredTemplate] = {}
        self._generation = 0
        # One read at a time of each version; the others do not wait for it.
        self._reading: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

    async def get(self, namespace: str, name: str, version: str) -> RegisteredTemplate:
        """Return a template version; an empty version means the highest one in use.

        Raises:
            TemplateDeactivatedError: An operator has taken it out of use.
            UnknownTemplateError: With the versions there are.
        """
        key = (namespace, name, version)
        if (known := self._known.get(key)) is not None:
            return known
        async with self._reading.setdefault(key, asyncio.Lock()):
            if (known := self._known.get(key)) is not None:
                return known
            generation = self._generation
            try:
                stored = await self._templates.get(namespace, name, version)
            except TemplateNotFoundError as missing:
                raise UnknownTemplateError(namespace, name, version, missing.known_versions) from None
            if not stored.active:
                active_versions = await self._templates.known_versions(namespace, name)
                raise TemplateDeactivatedError(namespace, name, version, active_versions)
            registered = await self._prepare(stored)
            if generation == self._generation:  # else what was just read may be the old revision
                if len(self._known) >= _CAPACITY:
                    self._known.clear()
                self._known[key] = registered
            return registered

    def forget(self) -> None:
        """Drop everything: some template has changed."""
        self._generation += 1
        self._known.clear()

    async def _prepare(self, stored: StoredTemplate) -> RegisteredTemplate:
        revision = await self._revisions.get(stored.template_digest, stored.document)
        return RegisteredTemplate(
            stored.namespace_id,
            stored.named_task_uuid,
            revision,
            ContextRules(
                default_context=revision.template.default_context,
                input_schema=revision.template.input_schema,
                validation=self._input_validation,
            ),
        )
