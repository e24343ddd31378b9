"""`tasker task`: cancel tasks, and let those go on that are stuck."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from tasker.client import Cancellation, RequeuedTask, RetriedTask, TaskState
from tasker.ctl.acting import Action, Actor, Agreed, TaskPrefixes, act
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


@app.command()
@with_options
def retry(
    tasks: TaskPrefixes = None,
    *,
    filters: TaskFilters,
    actor: Actor,
    agreed: Agreed = False,
    service: Service,
) -> None:
    """Give failed steps of tasks all their attempts again.

    The tasks go on. The exit code is 1 if a task refuses, such as one that has no failed step.
    """
    action = Action(
        "retry",
        lambda client, task: client.operations.retry_task(task, performed_by=actor.name, reason=actor.reason),
        _retried,
    )
    raise typer.Exit(act(action, tasks, filters, agreed=agreed, service=service))


@app.command()
@with_options
def resume(
    tasks: TaskPrefixes = None,
    *,
    filters: TaskFilters,
    actor: Actor,
    agreed: Agreed = False,
    service: Service,
) -> None:
    """Let tasks go on that were stale.

    That is those that ended in error although none of their steps failed. Their steps go on where they were. The exit
    code is 1 if a task refuses.
    """
    action = Action(
        "resume",
        lambda client, task: client.operations.resume_task(
            task, performed_by=actor.name, reason=actor.reason
        ),
        lambda task: shown(f"Task {task.task_uuid} goes on: it is {task.state}."),
    )
    raise typer.Exit(act(action, tasks, filters, agreed=agreed, service=service))


@app.command()
@with_options
def requeue(
    tasks: TaskPrefixes = None,
    *,
    filters: TaskFilters,
    actor: Actor,
    agreed: Agreed = False,
    service: Service,
) -> None:
    """Send lost messages of tasks again: of their enqueued steps.

    Harmless where they are still there: a step is run once for both. The exit code is 1 if a task refuses.
    """
    action = Action(
        "requeue",
        lambda client, task: client.operations.requeue_task(
            task, performed_by=actor.name, reason=actor.reason
        ),
        _requeued,
    )
    raise typer.Exit(act(action, tasks, filters, agreed=agreed, service=service))


def _cancelled(done: Cancellation) -> Text:
    uuid = done.task.task_uuid
    if done.success:
        return shown(f"Task {uuid} is cancelled.")
    return shown(f"Nothing was cancelled: {done.message or f'task {uuid} is {done.task.state}'}")


def _retried(done: RetriedTask) -> Text:
    steps = ", ".join(done.reset_steps)
    return shown(f"Task {done.task.task_uuid} goes on with {steps}: it is {done.task.state}.")


def _requeued(done: RequeuedTask) -> Text:
    count = f"{done.messages} message{'' if done.messages == 1 else 's'}"
    return shown(f"Task {done.task.task_uuid}: {count} sent again.")
