"""`tasker task`: cancel tasks, and let those go on that are stuck."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from tasker.client import Cancellation, TaskState
from tasker.ctl.acting import Action, Agreed, TaskPrefixes, act
from tasker.ctl.filters import TaskFilters
from tasker.ctl.options import with_options
from tasker.ctl.output import shown
from tasker.ctl.remote import Service

app = typer.Typer()


@app.command()
@with_options
def cancel(
    tasks: TaskPrefixes = None,
    *,
    filters: TaskFilters,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why.")] = None,
    requested_by: Annotated[
        str | None, typer.Option("--requested-by", "--by", metavar="TEXT", help="Who asks.")
    ] = None,
    agreed: Agreed = False,
    service: Service,
) -> None:
    """Cancel tasks and all of their open steps.

    Repeating it is harmless. The exit code is 1 if a task had ended otherwise before.
    """
    action = Action(
        "cancel",
        lambda client, task: client.cancel(task, reason=reason, requested_by=requested_by),
        _cancelled,
        lambda done: done.task.state is TaskState.CANCELLED,
    )
    raise typer.Exit(act(action, tasks, filters, agreed=agreed, service=service))


def _cancelled(done: Cancellation) -> Text:
    uuid = done.task.task_uuid
    if done.success:
        return shown(f"Task {uuid} is cancelled.")
    return shown(f"Nothing was cancelled: {done.message or f'task {uuid} is {done.task.state}'}")
