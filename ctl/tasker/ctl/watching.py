"""Watching a task until it is settled: as a moving picture, as lines, as JSON, or behind a bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from tasker.client import (
    StepState,
    StepUpdate,
    Task,
    TaskerClient,
    TaskerClientError,
    TaskState,
    TaskUpdate,
    Template,
)
from tasker.ctl.failures import ExitCode
from tasker.ctl.output import Output, brief, shown
from tasker.ctl.picture import TaskPicture
from tasker.ctl.reasons import step_reason, task_reason
from tasker.ctl.tables import REASON

Update = TaskUpdate | StepUpdate

#: Where a step is when an attempt at it has failed.
_FAILED: Final = (StepState.WAITING_FOR_RETRY, StepState.ERROR)

#: Lines of a terminal that the picture leaves free: its head, and the prompt below it.
_MARGIN: Final = 3


async def watch(client: TaskerClient, task: Task, output: Output) -> ExitCode:
    """Show every change of a task, from its first one until it is settled.

    Returns:
        How the command ends: whether the task came to what it was made for.
    """
    if output.as_json:
        last = await _each_update(client, task, lambda update: output.write(update, type=_type(update)))
    elif output.is_live:
        last = await _show_picture(client, task, output)
    else:
        last = await _each_update(
            client,
            task,
            lambda update: _say(update, output),
            lambda _, reason: output.say(Text("    ") + brief(reason, REASON, "red")),
        )
    if not output.as_json and (reason := await _last_words(client, last)):
        output.say(shown(reason, "red"))
    return ending(last.state)


async def wait(client: TaskerClient, task: Task, output: Output) -> Task:
    """Wait until a task is settled, with a bar for whoever watches; return it with its steps."""
    if output.errors.is_terminal and not output.as_json:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=output.errors, transient=True) as bars:
            bar = bars.add_task("waiting", total=task.total_steps)
            done: set[str] = set()

            def move(update: Update) -> None:
                if isinstance(update, TaskUpdate):
                    bars.update(bar, description=update.state)
                elif update.state.satisfies_children:
                    done.add(update.name)
                    bars.update(bar, completed=len(done))

            await _each_update(client, task, move)
    return await client.wait(task.task_uuid)


def ending(state: TaskState) -> ExitCode:
    """Return how a command ends that watched a task until this state."""
    good = state in (TaskState.COMPLETE, TaskState.RESOLVED_MANUALLY)
    return ExitCode.CLEAN if good else ExitCode.FAILURE


async def _each_update(
    client: TaskerClient,
    task: Task,
    show: Callable[[Update], None],
    explain: Callable[[StepUpdate, str], None] = lambda _, reason: None,
) -> TaskUpdate:
    """Show each update, and explain each failure of a step; return the last update about the task."""
    last = TaskUpdate(task_uuid=task.task_uuid, at=task.updated_at, state=task.state)
    async for update in client.watch(task.task_uuid, steps=True, from_start=True):
        show(update)
        if isinstance(update, TaskUpdate):
            last = update
        elif update.state in _FAILED and (reason := await _reason(client, update)):
            explain(update, reason)
    return last


async def _reason(client: TaskerClient, update: StepUpdate) -> str:
    """Return why a step failed; nothing if it has moved on, or this user may not read it."""
    try:
        step = await client.step(update.task_uuid, update.step_uuid)
    except TaskerClientError:
        return ""
    return step_reason(step) if (step.state, step.attempts) == (update.state, update.attempt) else ""


async def _last_words(client: TaskerClient, last: TaskUpdate) -> str:
    """Return why a task came to no good end: as it is stored, else as the watch told."""
    if ending(last.state) is ExitCode.CLEAN:
        return ""
    try:
        return task_reason(await client.get(last.task_uuid)) or last.error_message or ""
    except TaskerClientError:
        return last.error_message or ""


async def _show_picture(client: TaskerClient, task: Task, output: Output) -> TaskUpdate:
    names = [step.name for step in await client.steps(task.task_uuid, results=False)]
    template = await _template_of(client, task)
    picture = TaskPicture.of(task, names, template, room=output.console.size.height - _MARGIN)
    with Live(picture, console=output.console, refresh_per_second=8):
        return await _each_update(client, task, picture.move, picture.explain)


async def _template_of(client: TaskerClient, task: Task) -> Template | None:
    """Return the template of a task; None if this user may not read it, or it is gone."""
    try:
        return await client.template(task.namespace, task.name, task.version)
    except TaskerClientError:
        return None


def _type(update: Update) -> str:
    return "task_update" if isinstance(update, TaskUpdate) else "step_update"


def _say(update: Update, output: Output) -> None:
    """Print an update as a line; the last one repeats a state that has been told."""
    at = update.at.astimezone().isoformat(" ", "milliseconds")
    if isinstance(update, StepUpdate):
        attempt = f"  attempt {update.attempt}" if update.attempt > 1 else ""
        output.say(f"{at}  step  {shown(update.name)}  {update.state}{attempt}")
    elif not update.is_last:
        output.say(f"{at}  task  {update.state}")
