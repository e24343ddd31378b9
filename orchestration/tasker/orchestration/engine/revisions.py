"""Revisions of templates as an orchestrator uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasker.domain.templates.document import Template
from tasker.domain.templates.graph import Graph
from tasker.domain.templates.plan import PlannedStep, plan
from tasker.persistence.database import Database
from tasker.persistence.operations.register import store_plan
from tasker.persistence.reading.revisions import Revisions
from tasker.persistence.reading.templates import TemplateReader


@dataclass(frozen=True, slots=True)
class PlannedRevision:
    """A revision, planned for an orchestrator's environment.

    Attributes:
        steps: By name, in the order of their positions.
    """

    digest: bytes
    template: Template
    graph: Graph
    steps: Mapping[str, PlannedStep]


def planned_revisions(database: Database, environment: str) -> Revisions[PlannedRevision]:
    """Return the revisions, planned for an environment; the plan of one that was used is stored."""

    async def prepare(digest: bytes, template: Template) -> PlannedRevision:
        steps = plan(template, environment)
        await store_plan(database, digest, environment, steps)
        return PlannedRevision(digest, template, Graph.of(template), {step.name: step for step in steps})

    return Revisions(TemplateReader(database), prepare)
