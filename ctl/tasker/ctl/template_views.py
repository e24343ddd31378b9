"""How templates look to people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table

from tasker.client import StepDefinition, Template, TemplateSummary
from tasker.ctl import tables
from tasker.ctl.output import brief, shown


def template_table(templates: Iterable[TemplateSummary]) -> Table:
    """Return one line a version of a template."""
    made = tables.table("TEMPLATE", "VERSION", "STEPS", "DESCRIPTION", right=("STEPS",))
    for template in templates:
        made.add_row(
            shown(f"{template.namespace}/{template.name}"),
            shown(template.version),
            str(template.step_count),
            brief(template.description or "", tables.CELL),
        )
    return made


def template_details(template: Template) -> RenderableType:
    """Return all about one version of a template."""
    facts = [
        ("template", shown(f"{template.namespace}/{template.name}:{template.version}")),
        ("description", template.description or ""),
        (
            "input schema",
            tables.json_text(template.input_schema) if template.input_schema is not None else "",
        ),
    ]
    steps = tables.table(
        "STEP", "TYPE", "HANDLER", "ATTEMPTS", "TIMEOUT", "AFTER", right=("ATTEMPTS", "TIMEOUT")
    )
    for step in template.steps:
        steps.add_row(
            shown(step.name),
            shown(step.step_type),
            shown(step.handler),
            str(_attempts(step)),
            f"{step.timeout_seconds} s" if step.timeout_seconds is not None else "",
            shown(", ".join(step.dependencies)),
        )
    return Group(tables.facts(facts), "", steps)


def _attempts(step: StepDefinition) -> int:
    return step.max_attempts if step.retryable else 1
