"""Revisions of templates as a worker uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasker.domain.json_schema import Schema
from tasker.domain.templates.document import Step, Template
from tasker.domain.templates.plan import PlannedStep, plan
from tasker.persistence.database import Database
from tasker.persistence.reading.revisions import Revisions
from tasker.persistence.reading.templates import TemplateReader


@dataclass(frozen=True, slots=True)
class KnownStep:
    """A step of a template revision.

    Attributes:
        result_schema: What its results must look like, ready for use.
        batch_size: Items of a batch, for the steps of one; None for others.
    """

    template: Template
    step: Step
    result_schema: Schema | None
    batch_size: int | None


def known_revisions(database: Database) -> Revisions[Mapping[str, KnownStep]]:
    """Return the revisions, each as its steps by name, whichever worker registered it."""

    async def prepare(digest: bytes, template: Template) -> Mapping[str, KnownStep]:
        # For no environment: overrides never touch batch_config.
        planned = {step.name: step for step in plan(template)}
        return {step.name: _known(template, step, planned[step.name]) for step in template.steps}

    return Revisions(TemplateReader(database), prepare)


def _known(template: Template, step: Step, planned: PlannedStep) -> KnownStep:
    schema = None if step.result_schema is None else Schema(step.result_schema)
    batch_size = None if planned.batch_config is None else planned.batch_config.batch_size
    return KnownStep(template, step, schema, batch_size)
