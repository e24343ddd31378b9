"""How tasks, steps, templates and health look to people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tasker.client import (
    Health,
    Step,
    StepDefinition,
    StepState,
    Task,
    TaskState,
    Template,
    TemplateSummary,
)
from tasker.ctl.output import brief, shown

#: How many characters of a value fit into a table, and beside its name. --json prints all of it.
CELL: Final = 100
FACT: Final = 1000

_COLOURS: Final[Mapping[str, str]] = {
    StepState.IN_PROGRESS: "cyan",
    TaskState.STEPS_IN_PROCESS: "cyan",
    TaskState.WAITING_FOR_RETRY: "yellow",
    TaskState.BLOCKED_BY_FAILURES: "red",
    TaskState.ERROR: "red",
    TaskState.CANCELLED: "magenta",
    TaskState.COMPLETE: "green",
    TaskState.RESOLVED_MANUALLY: "green",
    "healthy": "green",
    "ready": "green",
    "degraded": "yellow",
    "unknown": "yellow",
    "unhealthy": "red",
}


def state(value: str) -> Text:
    """Return a state in its colour."""
    return shown(value, _COLOURS.get(value, ""))


def local(instant: datetime | None) -> str:
    """Return an instant in local time, to the second."""
    return instant.astimezone().isoformat(" ", "seconds") if instant is not None else ""


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """Return an empty table without lines."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def task_table(tasks: Iterable[Task]) -> Table:
    """Return one line a task."""
    made = table("TASK", "TEMPLATE", "STATE", "STEPS", "CREATED", right=("STEPS",))
    for task in tasks:
        made.add_row(
            str(task.task_uuid),
            template_name(task),
            state(task.state),
            f"{task.completed_steps}/{task.total_steps}",
            local(task.created_at),
        )
    return made


def task_details(task: Task) -> RenderableType:
    """Return all about one task, its steps included if they came with it."""
    facts: list[tuple[str, object]] = [
        ("task", task.task_uuid),
        ("template", template_name(task)),
        ("state", state(task.state)),
        ("status", _status(task)),
        ("steps", f"{task.completed_steps} of {task.total_steps} done ({task.completion_percentage:g} %)"),
        ("priority", task.priority),
        ("tags", ", ".join(task.tags)),
        ("initiator", task.initiator),
        ("source system", task.source_system),
        ("reason", task.reason),
        ("correlation", task.correlation_id),
        ("caused by", task.parent_correlation_id or ""),
        ("created", local(task.created_at)),
        ("updated", local(task.updated_at)),
        ("completed", local(task.completed_at)),
        ("context", json_text(task.context)),
    ]
    parts: list[RenderableType] = [_facts(facts)]
    if task.steps:
        parts += ["", step_table(task.steps)]
    return Group(*parts)


def step_table(steps: Iterable[Step]) -> Table:
    """Return one line a step, with what it returned or why it failed."""
    made = table("STEP", "STATE", "ATTEMPTS", "RESULT", right=("ATTEMPTS",))
    for step in steps:
        made.add_row(
            shown(step.name), state(step.state), f"{step.attempts}/{step.max_attempts}", _result(step)
        )
    return made


def template_table(templates: Iterable[TemplateSummary]) -> Table:
    """Return one line a version of a template."""
    made = table("TEMPLATE", "VERSION", "STEPS", "DESCRIPTION", right=("STEPS",))
    for template in templates:
        made.add_row(
            shown(f"{template.namespace}/{template.name}"),
            shown(template.version),
            str(template.step_count),
            brief(template.description or "", CELL),
        )
    return made


def template_details(template: Template) -> RenderableType:
    """Return all about one version of a template."""
    facts = [
        ("template", shown(f"{template.namespace}/{template.name}:{template.version}")),
        ("description", template.description or ""),
        ("input schema", json_text(template.input_schema) if template.input_schema is not None else ""),
    ]
    steps = table("STEP", "TYPE", "HANDLER", "ATTEMPTS", "TIMEOUT", "AFTER", right=("ATTEMPTS", "TIMEOUT"))
    for step in template.steps:
        steps.add_row(
            shown(step.name),
            shown(step.step_type),
            shown(step.handler),
            str(_attempts(step)),
            f"{step.timeout_seconds} s" if step.timeout_seconds is not None else "",
            shown(", ".join(step.dependencies)),
        )
    return Group(_facts(facts), "", steps)


def health_details(health: Health) -> RenderableType:
    """Return what a probe found."""
    facts: list[tuple[str, object]] = [("status", state(health.status))]
    if health.info is not None:
        facts += [
            ("version", health.info.version),
            ("environment", health.info.environment),
            ("operation", health.info.operational_state),
        ]
    if not health.checks:
        return _facts(facts)
    checks = table("CHECK", "STATUS", "MS", "FOUND", right=("MS",))
    for name, check in health.checks.items():
        checks.add_row(
            shown(name), state(check.status), str(check.duration_ms), brief(check.message or "", CELL)
        )
    return Group(_facts(facts), "", checks)


def template_name(task: Task) -> Text:
    """Return the template of a task as people write it."""
    return shown(f"{task.namespace}/{task.name}:{task.version}")


def json_text(value: Any) -> str:
    """Return a JSON value as text for people."""
    return json.dumps(value, ensure_ascii=False)


def _facts(facts: Iterable[tuple[str, object]]) -> RenderableType:
    """Return names and values, one a line; what is empty is left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in facts:
        if str(value):
            made.add_row(name, value if isinstance(value, Text) else brief(value, FACT))
    return Padding(made, 0, expand=False)


def _result(step: Step) -> Text:
    if step.error is not None:
        return brief(step.error.get("message") or "", CELL, "red")
    return brief(json_text(step.result), CELL) if step.state is StepState.COMPLETE else Text()


def _attempts(step: StepDefinition) -> int:
    return step.max_attempts if step.retryable else 1


def _status(task: Task) -> str:
    status = f"{task.execution_status}, {task.health_status}"
    return status if task.state.is_terminal else f"{status}; {task.recommended_action}"
