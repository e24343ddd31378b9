"""How tasks and steps look to people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasker.client import (
    Step,
    StepIntervention,
    StepState,
    StepSummary,
    Task,
    TaskContext,
    TaskSummary,
)
from tasker.ctl import tables
from tasker.ctl.output import brief, shown
from tasker.ctl.reasons import (
    cancellation_text,
    failure_text,
    intervention_text,
    step_failure_text,
    step_reason,
    task_reason,
)


def task_table(tasks: Sequence[Task]) -> Table:
    """Return one line a task; with why it does not get on, if that is known of any."""
    reasons = [task_reason(task) for task in tasks]
    columns = ["TASK", "TEMPLATE", "STATE", "STEPS", "CREATED"] + (["WHY"] if any(reasons) else [])
    made = tables.table(*columns, right=("STEPS",))
    for task, reason in zip(tasks, reasons, strict=True):
        cells: list[str | Text] = [
            str(task.task_uuid),
            template_name(task),
            tables.state(task.state),
            f"{task.completed_steps}/{task.total_steps}",
            tables.local(task.created_at),
        ]
        made.add_row(*cells, *([brief(reason, tables.REASON)] if any(reasons) else []))
    return made


def task_details(task: Task) -> RenderableType:
    """Return all about one task, its steps included if they came with it."""
    facts: list[tuple[str, object]] = [
        *_head(task),
        ("priority", task.priority),
        ("tags", ", ".join(task.tags)),
        *_origin(task),
        ("caused by", task.parent_correlation_id or ""),
        *_times(task),
        ("context", tables.json_text(task.context)),
    ]
    parts: list[RenderableType] = [tables.facts(facts)]
    if task.steps:
        parts += ["", step_table(task.steps)]
    return Group(*parts)


def task_summary(summary: TaskSummary) -> RenderableType:
    """Return a task in brief: without its context, and with its steps' results left out."""
    facts: list[tuple[str, object]] = [*_head(summary), *_origin(summary), *_times(summary)]
    if summary.dlq_reason is not None:
        waits = "it waits for a person" if summary.in_dlq else summary.dlq_status
        facts.append(("DLQ entry", f"{summary.dlq_reason}; {waits}"))
    handlers = {step.name: step.handler for step in summary.template_steps}
    steps = tables.table("STEP", "HANDLER", "STATE", "ATTEMPTS", "WHY", right=("ATTEMPTS",))
    for step in summary.steps:
        steps.add_row(
            shown(step.name),
            shown(handlers.get(step.name, "")),
            tables.state(step.state),
            _attempts(step),
            brief(step_failure_text(step.error) if step.error else "", tables.REASON, "red"),
        )
    parts: list[RenderableType] = [tables.facts(facts), "", steps]
    if summary.omitted_steps:
        parts.append(f"and {summary.omitted_steps} more: tasker step list {summary.task_uuid}")
    return Group(*parts)


def task_context(context: TaskContext) -> RenderableType:
    """Return what went into a task and what its steps made of it, whole."""
    whole = {"inputs": dict(context.inputs), "outputs": dict(context.outputs)}
    return shown(json.dumps(whole, ensure_ascii=False, indent=2))


def step_table(steps: Iterable[Step]) -> Table:
    """Return one line a step, with what it returned, or why it failed and when it is tried again."""
    made = tables.table("STEP", "STATE", "ATTEMPTS", "RESULT", right=("ATTEMPTS",))
    for step in steps:
        made.add_row(shown(step.name), tables.state(step.state), _attempts(step), _result(step))
    return made


def step_details(
    step: Step, intervention: StepIntervention | None = None, *, traceback: bool
) -> RenderableType:
    """Return all about one step, and what a person did to it last."""
    failure = step.failure
    facts: list[tuple[str, object]] = [
        ("step", step.name),
        ("uuid", step.step_uuid),
        ("task", step.task_uuid),
        ("state", tables.state(step.state)),
        ("attempts", f"{step.attempts} of {step.max_attempts}"),
        ("parents", f"{step.completed_parents} of {step.total_parents} done" if step.total_parents else ""),
    ]
    if failure is not None:
        facts += [
            ("failure", brief(step_failure_text(failure), tables.FACT, "red")),
            ("permanent", "no: another attempt may help" if failure.retryable else "yes"),
            ("status code", failure.status_code or ""),
        ]
    facts += [
        ("next try", tables.local(step.next_retry_at)),
        ("created", tables.local(step.created_at)),
        ("last try", tables.local(step.last_attempted_at)),
        ("completed", tables.local(step.completed_at)),
        (
            "by hand",
            f"{tables.local(intervention.intervened_at)} {intervention_text(intervention)}"
            if intervention
            else "",
        ),
        ("result", tables.json_text(step.result) if step.state is StepState.COMPLETE else ""),
    ]
    parts: list[RenderableType] = [tables.facts(facts)]
    if traceback and failure is not None:
        lines = [line for part in failure.backtrace for line in part.splitlines()]
        parts += ["", shown("\n".join(lines) or "No traceback was kept, or you may not read it.")]
    return Group(*parts)


def step_line(step: Step) -> Text:
    """Return where a step is, in a line."""
    return shown(f"Step {step.name} of task {step.task_uuid} is {step.state}.")


def template_name(task: Task | TaskSummary) -> Text:
    """Return the template of a task as people write it."""
    return shown(f"{task.namespace}/{task.name}:{task.version}")


def _head(task: Task | TaskSummary) -> list[tuple[str, object]]:
    return [
        ("task", task.task_uuid),
        ("template", template_name(task)),
        ("state", tables.state(task.state)),
        ("failure", brief(failure_text(task.failure), tables.FACT, "red") if task.failure else ""),
        ("cancelled", cancellation_text(task.cancellation) if task.cancellation else ""),
        ("status", _status(task)),
        ("steps", f"{task.completed_steps} of {task.total_steps} done ({task.completion_percentage:g} %)"),
    ]


def _origin(task: Task | TaskSummary) -> list[tuple[str, object]]:
    return [
        ("initiator", task.initiator),
        ("source system", task.source_system),
        ("reason", task.reason),
        ("correlation", task.correlation_id),
    ]


def _times(task: Task | TaskSummary) -> list[tuple[str, object]]:
    return [
        ("created", tables.local(task.created_at)),
        ("updated", tables.local(task.updated_at)),
        ("completed", tables.local(task.completed_at)),
    ]


def _attempts(step: Step | StepSummary) -> str:
    return f"{step.attempts}/{step.max_attempts}"


def _result(step: Step) -> Text:
    if reason := step_reason(step):
        return brief(reason, tables.REASON, "red")
    return brief(tables.json_text(step.result), tables.CELL) if step.state is StepState.COMPLETE else Text()


def _status(task: Task | TaskSummary) -> str:
    status = f"{task.execution_status}, {task.health_status}"
    return status if task.state.is_terminal else f"{status}; {task.recommended_action}"
