"""How tasks and steps look to people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasker.client import Step, StepState, Task
from tasker.ctl import tables
from tasker.ctl.output import brief, shown


def task_table(tasks: Iterable[Task]) -> Table:
    """Return one line a task."""
    made = tables.table("TASK", "TEMPLATE", "STATE", "STEPS", "CREATED", right=("STEPS",))
    for task in tasks:
        made.add_row(
            str(task.task_uuid),
            template_name(task),
            tables.state(task.state),
            f"{task.completed_steps}/{task.total_steps}",
            tables.local(task.created_at),
        )
    return made


def task_details(task: Task) -> RenderableType:
    """Return all about one task, its steps included if they came with it."""
    facts: list[tuple[str, object]] = [
        ("task", task.task_uuid),
        ("template", template_name(task)),
        ("state", tables.state(task.state)),
        ("status", _status(task)),
        ("steps", f"{task.completed_steps} of {task.total_steps} done ({task.completion_percentage:g} %)"),
        ("priority", task.priority),
        ("tags", ", ".join(task.tags)),
        ("initiator", task.initiator),
        ("source system", task.source_system),
        ("reason", task.reason),
        ("correlation", task.correlation_id),
        ("caused by", task.parent_correlation_id or ""),
        ("created", tables.local(task.created_at)),
        ("updated", tables.local(task.updated_at)),
        ("completed", tables.local(task.completed_at)),
        ("context", tables.json_text(task.context)),
    ]
    parts: list[RenderableType] = [tables.facts(facts)]
    if task.steps:
        parts += ["", step_table(task.steps)]
    return Group(*parts)


def step_table(steps: Iterable[Step]) -> Table:
    """Return one line a step, with what it returned or why it failed."""
    made = tables.table("STEP", "STATE", "ATTEMPTS", "RESULT", right=("ATTEMPTS",))
    for step in steps:
        made.add_row(
            shown(step.name), tables.state(step.state), f"{step.attempts}/{step.max_attempts}", _result(step)
        )
    return made


def template_name(task: Task) -> Text:
    """Return the template of a task as people write it."""
    return shown(f"{task.namespace}/{task.name}:{task.version}")


def _result(step: Step) -> Text:
    if step.error is not None:
        return brief(step.error.get("message") or "", tables.CELL, "red")
    return brief(tables.json_text(step.result), tables.CELL) if step.state is StepState.COMPLETE else Text()


def _status(task: Task) -> str:
    status = f"{task.execution_status}, {task.health_status}"
    return status if task.state.is_terminal else f"{status}; {task.recommended_action}"
