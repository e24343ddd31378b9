"""Revisions of templates as an orchestrator uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from tasker.domain.templates.document import Template
from tasker.domain.templates.graph import Graph
from tasker.domain.templates.plan import PlannedStep, plan
from tasker.persistence.database import Database
from tasker.persistence.operations.register import store_plan
from tasker.persistence.reading.revisions import Revisions
from tasker.persistence.reading.templates import TemplateReader


@dataclass(frozen=True, slots=True)
class PlannedRevision:
    """A revision, planned for an environment.

    Attributes:
        steps: By name, in the order of their positions.
    """

    digest: bytes
    template: Template
    graph: Graph
    steps: Mapping[str, PlannedStep]


class PlannedRevisions:
    """The revisions, planned for whatever environment a task was created in; the plan of one that was used is stored.

    Attributes:
        environment: The orchestrator's own, for new tasks and those that do not know theirs.
    """

    def __init__(self, database: Database, environment: str) -> None:
        self.environment = environment
        self._database = database
        self._templates = TemplateReader(database)
        self._known: dict[str, Revisions[PlannedRevision]] = {}

    def of(self, environment: str | None = None) -> Revisions[PlannedRevision]:
        """Return the revisions as they are planned for an environment; None means the orchestrator's own."""
        name = self.environment if environment is None else environment
        if name not in self._known:
            self._known[name] = Revisions(self._templates, partial(self._prepare, name))
        return self._known[name]

    async def _prepare(self, environment: str, digest: bytes, template: Template) -> PlannedRevision:
        steps = plan(template, environment)
        await store_plan(self._database, digest, environment, steps)
        return PlannedRevision(digest, template, Graph.of(template), {step.name: step for step in steps})
