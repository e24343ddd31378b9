"""How templates look to people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasker.client import (
    ChosenVersion,
    RegisteredTemplate,
    StepDefinition,
    Template,
    TemplateSummary,
    TemplateVersion,
)
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


def version_table(versions: Iterable[TemplateVersion]) -> Table:
    """Return one line a version: whether it may be used, and by how many tasks it is."""
    made = tables.table("VERSION", "STATUS", "OPEN", "REGISTERED", "DIGEST", "OUT OF USE", right=("OPEN",))
    for version in versions:
        made.add_row(
            shown(version.version),
            "default" if version.is_default else "active" if version.active else "inactive",
            f"{version.open_tasks:,}",
            tables.local(version.registered_at),
            version.digest[:12],
            brief(_out_of_use(version), tables.CELL),
        )
    return made


def registered_line(done: RegisteredTemplate) -> Text:
    """Return what registering a template came to."""
    found = "is registered" if done.changed else "was registered before"
    inactive = "" if done.version.active else ", and is out of use"
    return shown(f"Template {_key(done.version)} {found}{inactive}.")


def chosen_line(chosen: ChosenVersion) -> Text:
    """Return whether a version may be used, and which one is the default now."""
    version = chosen.version
    default = (
        f"{chosen.default_version} is the default"
        if chosen.default_version
        else "no version is in use, so no task can be created"
    )
    use = "in use" if version.active else f"out of use, with {version.open_tasks:,} open tasks"
    return shown(f"Template {_key(version)} is {use}; {default}.")


def _key(version: TemplateVersion) -> str:
    return f"{version.namespace}/{version.name}:{version.version}"


def _out_of_use(version: TemplateVersion) -> str:
    if version.deactivated_at is None:
        return ""
    who = f" by {version.deactivated_by}" if version.deactivated_by else ""
    why = f": {version.deactivation_reason}" if version.deactivation_reason else ""
    return f"since {tables.local(version.deactivated_at)}{who}{why}"


def _attempts(step: StepDefinition) -> int:
    return step.max_attempts if step.retryable else 1
