"""`tasker task`: create tasks, look at them, watch them."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

import typer

from tasker.client import (
    SortField,
    Task,
    TaskContext,
    TaskerClient,
    TaskQuery,
    TaskSummary,
)
from tasker.ctl import task_actions, task_views
from tasker.ctl.arguments import TemplateName, json_object, template_name
from tasker.ctl.event_loop import run
from tasker.ctl.failures import ExitCode
from tasker.ctl.filters import TaskFilters
from tasker.ctl.history import Happening, history, history_table
from tasker.ctl.limits import Everything, Limit, show_some
from tasker.ctl.options import with_options
from tasker.ctl.output import Output
from tasker.ctl.prefixes import TaskPrefix, find_step, find_task
from tasker.ctl.remote import Service
from tasker.ctl.step_listing import list_steps

app = typer.Typer(no_args_is_help=True)

#: Tasks that are asked for at once, so that the first ones show soon.
_PAGE: Final = 100


@app.callback()
def task() -> None:
    """Create, list, watch, cancel and mend tasks."""


@app.command()
@with_options
def create(
    template: Annotated[
        TemplateName,
        typer.Argument(
            parser=template_name,
            metavar="NAMESPACE/NAME[/VERSION]",
            help="What to run; the highest version by default.",
            show_default=False,
        ),
    ],
    context: Annotated[
        dict[str, Any] | None,
        typer.Option(
            parser=json_object,
            metavar="JSON|@FILE|@-",
            help="What the task is about: a JSON object, here, in a file or on standard input.",
            show_default=False,
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Names this request: sent again it finds the same task."),
    ] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="0 if not given.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A label; may be repeated.")] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why.")] = None,
    initiator: Annotated[str | None, typer.Option(metavar="TEXT", help="Who asks.")] = None,
    source_system: Annotated[str | None, typer.Option(metavar="TEXT", help="Where this comes from.")] = None,
    correlation_id: Annotated[UUID | None, typer.Option(help="Ties the task to other work.")] = None,
    parent_correlation_id: Annotated[
        UUID | None, typer.Option(help="Correlation id of the work that causes the task.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when the task is settled, and show it with its steps.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show every step until the task is settled.")
    ] = False,
    *,
    service: Service,
) -> None:
    """Create a task.

    With --wait or --watch the exit code says how it ended: 0 if it is complete, else 1.
    """
    from tasker.ctl import watching  # here: most commands show nothing that moves

    async def work() -> ExitCode:
        async with service.connected() as client:
            with service.busy():
                task = await client.create(
                    template.namespace,
                    template.name,
                    context,
                    version=template.version,
                    idempotency_key=idempotency_key,
                    correlation_id=correlation_id,
                    parent_correlation_id=parent_correlation_id,
                    initiator=initiator,
                    source_system=source_system,
                    reason=reason,
                    priority=priority,
                    tags=tag or (),
                )
            _show_created(task, service.output, alone=not (wait or watch), streaming=watch)
            if watch:
                return await watching.watch(client, task, service.output)
            if not wait:
                return ExitCode.CLEAN
            settled = await watching.wait(client, task, service.output)
        service.output.show(settled, task_views.task_details)
        return watching.ending(settled.state)

    raise typer.Exit(run(work()))


@app.command()
@with_options
def get(
    task: TaskPrefix,
    *,
    service: Service,
) -> None:
    """Show a task with its steps."""

    async def ask(client: TaskerClient) -> Task:
        return await client.get(await find_task(client, task), steps=True)

    service.output.show(service.ask(ask), task_views.task_details)


@app.command("list")
@with_options
def list_tasks(
    filters: TaskFilters,
    sort: Annotated[SortField, typer.Option(help="What to sort by.")] = "created_at",
    ascending: Annotated[
        bool, typer.Option("--ascending", help="Oldest or smallest first; newest or largest by default.")
    ] = False,
    limit: Limit = 20,
    everything: Everything = False,
    *,
    service: Service,
) -> None:
    """List tasks, newest first.

    Every filter given must hold. TIME is an instant (2026-01-31T12:00:00Z; in local time without a zone) or how long
    ago (90m, 2d). With --json each line is a task with its context.
    """
    query: TaskQuery = filters.query | {
        "sort": sort,
        "ascending": ascending,
        "context": service.output.as_json,
    }
    most = None if everything else limit
    show_some(
        lambda client: client.list(page_size=_PAGE if most is None else min(most + 1, _PAGE), **query),
        most,
        task_views.task_table,
        "No task matches.",
        service,
    )


@app.command()
@with_options
def watch(
    task: TaskPrefix,
    *,
    service: Service,
) -> None:
    """Watch a task until it is settled.

    Shows every change from its first one on: on a terminal as a moving picture of its steps, otherwise as lines. The
    exit code is 0 if it is complete, else 1.
    """
    from tasker.ctl import watching  # here: most commands show nothing that moves

    async def work() -> ExitCode:
        async with service.connected() as client:
            with service.busy():
                found = await client.get(await find_task(client, task))
            return await watching.watch(client, found, service.output)

    raise typer.Exit(run(work()))


app.command("steps")(list_steps)


@app.command()
@with_options
def summary(task: TaskPrefix, *, service: Service) -> None:
    """Show a task in brief.

    Its steps with their handlers and errors, and whether it waits for a person; without its context and results.
    """

    async def ask(client: TaskerClient) -> TaskSummary:
        return await client.summary(await find_task(client, task))

    service.output.show(service.ask(ask), task_views.task_summary)


@app.command()
@with_options
def context(task: TaskPrefix, *, service: Service) -> None:
    """Show a task's context and the results of its steps.

    Both whole, however long they are; the results by the names of the steps.
    """

    async def ask(client: TaskerClient) -> TaskContext:
        return await client.context(await find_task(client, task))

    service.output.show(service.ask(ask), task_views.task_context)


@app.command()
@with_options
def audit(
    task: TaskPrefix,
    step: Annotated[
        str | None,
        typer.Argument(metavar="STEP", help="Only this step: its name, its uuid, or the beginning of that."),
    ] = None,
    *,
    service: Service,
) -> None:
    """List every result of a task's steps, and who acted on them, oldest first.

    Results are as workers submitted them: every attempt is there, and those before a retry by hand, too. Of what people
    did to a step the newest 100 are there; with --json one a line, those with `action`, `performed_by` and `reason`.
    """

    async def ask(client: TaskerClient) -> list[Happening]:
        task_uuid = await find_task(client, task)
        if step is None:
            return await history(client, await client.steps(task_uuid, results=False))
        return await history(client, [await client.step(task_uuid, await find_step(client, task_uuid, step))])

    service.output.show_all(service.ask(ask), history_table, none="No result was submitted yet.")


def _show_created(task: Task, output: Output, *, alone: bool, streaming: bool) -> None:
    """Say that a task was created: in a line, or as the first of the objects to come."""
    if output.as_json:
        if alone:
            output.write(task)
        elif streaming:
            output.write(task, type="task")
        return
    found = "was created by an earlier call with this key" if task.already_existed else "is created"
    output.say(f"Task {task.task_uuid} ({task_views.template_name(task)}) {found}.")


app.registered_commands += task_actions.app.registered_commands
