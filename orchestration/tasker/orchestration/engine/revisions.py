"""Revisions of templates as running tasks need them: by digest, current or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tasker.domain.templates.document import Template
from tasker.domain.templates.graph import Graph
from tasker.domain.templates.plan import PlannedStep, plan
from tasker.persistence.database import Database
from tasker.persistence.operations.register import store_plan
from tasker.persistence.reading.templates import TemplateReader

_CAPACITY: Final = 1000


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision, planned for this orchestrator's environment."""

    graph: Graph
    steps: Mapping[str, PlannedStep]


class Revisions:
    """Reads revisions and keeps them: they never change."""

    def __init__(self, database: Database, *, environment: str) -> None:
        self._database = database
        self._templates = TemplateReader(database)
        self._environment = environment
        self._known: dict[bytes, Revision] = {}

    async def get(self, digest: bytes) -> Revision:
        """Return a revision that some task runs on; its plan is stored from now on.

        Raises:
            LookupError: There is none, which no stored task admits.
        """
        if (known := self._known.get(digest)) is not None:
            return known
        document = await self._templates.revision(digest)
        if document is None:
            raise LookupError(f"template revision {digest.hex()} is gone")
        template = Template.model_validate(document)
        steps = plan(template, self._environment)
        await store_plan(self._database, digest, self._environment, steps)
        if len(self._known) >= _CAPACITY:
            self._known.clear()
        revision = Revision(Graph.of(template), {step.name: step for step in steps})
        self._known[digest] = revision
        return revision
