"""The template revisions that claimed steps belong to. A revision never changes, so it is kept for good."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tasker.domain.json_schema import Schema
from tasker.domain.templates.document import Step, Template
from tasker.domain.templates.plan import PlannedStep, plan
from tasker.persistence.reading.templates import TemplateReader

_CAPACITY: Final = 1000


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


class RevisionCache:
    """Finds the template step behind a claimed step, whichever worker registered it."""

    def __init__(self, templates: TemplateReader) -> None:
        self._templates = templates
        self._known: OrderedDict[bytes, dict[str, KnownStep]] = OrderedDict()

    async def step(self, digest: bytes, name: str) -> KnownStep:
        """Return the step of that name in the revision.

        Raises:
            LookupError: There is no such revision or step, which only manual surgery can cause.
        """
        if digest not in self._known:
            document = await self._templates.revision(digest)
            if document is None:
                raise LookupError(f"template revision {digest.hex()} is not registered")
            template = Template.model_validate(document)
            # For no environment: overrides never touch batch_config.
            planned = {step.name: step for step in plan(template)}
            self._known[digest] = {
                step.name: _known(template, step, planned[step.name]) for step in template.steps
            }
            if len(self._known) > _CAPACITY:
                self._known.popitem(last=False)
        return self._known[digest][name]


def _known(template: Template, step: Step, planned: PlannedStep) -> KnownStep:
    schema = None if step.result_schema is None else Schema(step.result_schema)
    batch_size = None if planned.batch_config is None else planned.batch_config.batch_size
    return KnownStep(template, step, schema, batch_size)
