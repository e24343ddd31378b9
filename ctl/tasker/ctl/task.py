"""`tasker task`: create tasks, look at them, watch them, cancel them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, cast
from uuid import UUID

import typer

from tasker.client import SortField, Task, TaskQuery, TaskState
from tasker.ctl import tables
from tasker.ctl.arguments import TemplateName, context_object, instant, template_name
from tasker.ctl.event_loop import run
from tasker.ctl.failures import ExitCode
from tasker.ctl.output import Output, shown
from tasker.ctl.remote import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    TaskUuid,
    Timeout,
    ask,
    connected,
)

app = typer.Typer(no_args_is_help=True)

#: Tasks that are asked for at once, so that the first ones show soon.
_PAGE: Final = 100

#: The first and the second end of a span.
From = Annotated[datetime | None, typer.Option(parser=instant, metavar="TIME", help="At TIME or later.")]
Until = Annotated[datetime | None, typer.Option(parser=instant, metavar="TIME", help="Before TIME.")]


@app.callback()
def task() -> None:
    """Create, list, watch and cancel tasks."""


@app.command()
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
            parser=context_object,
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
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Create a task.

    With --wait or --watch the exit code says how it ended: 0 if it is complete, else 1.
    """
    from tasker.ctl import watching  # here: most commands show nothing that moves

    output = Output(as_json=as_json)

    async def work() -> ExitCode:
        async with connected(address, timeout) as client:
            with output.busy(f"Asking {address}"):
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
            _show_created(task, output, alone=not (wait or watch), streaming=watch)
            if watch:
                return await watching.watch(client, task, output)
            if not wait:
                return ExitCode.CLEAN
            settled = await watching.wait(client, task, output)
        _show_task(settled, output)
        return watching.ending(settled.state)

    raise typer.Exit(run(work()))


@app.command()
def get(
    task_uuid: TaskUuid,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Show a task with its steps."""
    output = Output(as_json=as_json)
    _show_task(ask(lambda client: client.get(task_uuid, steps=True), address, timeout, output), output)


@app.command("list")
def list_tasks(
    namespace: Annotated[str | None, typer.Option(metavar="TEXT", help="Namespace of the template.")] = None,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="Name of the template.")] = None,
    state: Annotated[
        list[TaskState] | None,
        typer.Option(help=f"Any of these states: {', '.join(TaskState)}.", metavar="STATE"),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="All of these labels.")] = None,
    tag_any: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="One of these labels.")] = None,
    initiator: Annotated[str | None, typer.Option(metavar="TEXT", help="Who asked for the task.")] = None,
    source_system: Annotated[str | None, typer.Option(metavar="TEXT", help="Where it came from.")] = None,
    correlation_id: Annotated[UUID | None, typer.Option(help="What it is tied to.")] = None,
    parent_correlation_id: Annotated[UUID | None, typer.Option(help="What caused it.")] = None,
    created_after: From = None,
    created_before: Until = None,
    updated_after: From = None,
    updated_before: Until = None,
    sort: Annotated[SortField, typer.Option(help="What to sort by.")] = "created_at",
    ascending: Annotated[
        bool, typer.Option("--ascending", help="Oldest or smallest first; newest or largest by default.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many tasks at most.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="As many as there are.")] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first.

    Every filter given must hold. TIME is an instant (2026-01-31T12:00:00Z; in local time without a zone) or how long
    ago (90m, 2d). With --json each line is a task with its context.
    """
    given: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "states": state,
        "tags": tag,
        "tags_any": tag_any,
        "initiator": initiator,
        "source_system": source_system,
        "correlation_id": correlation_id,
        "parent_correlation_id": parent_correlation_id,
        "created_after": created_after,
        "created_before": created_before,
        "updated_after": updated_after,
        "updated_before": updated_before,
        "sort": sort,
        "ascending": ascending,
        "context": as_json,
    }
    query = cast("TaskQuery", {name: value for name, value in given.items() if value is not None})
    run(_list(query, None if everything else limit, address, timeout, Output(as_json=as_json)))


@app.command()
def cancel(
    task_uuid: TaskUuid,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why.")] = None,
    requested_by: Annotated[str | None, typer.Option(metavar="TEXT", help="Who asks.")] = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Cancel a task and all of its open steps.

    Repeating it is harmless. The exit code is 1 if the task had ended otherwise before.
    """
    output = Output(as_json=as_json)
    done = ask(
        lambda client: client.cancel(task_uuid, reason=reason, requested_by=requested_by),
        address,
        timeout,
        output,
    )
    if as_json:
        output.write(done)
    elif done.success:
        output.say(f"Task {task_uuid} is cancelled.")
    else:
        output.say(
            shown(f"Nothing was cancelled: {done.message or f'task {task_uuid} is {done.task.state}'}")
        )
    raise typer.Exit(ExitCode.CLEAN if done.task.state is TaskState.CANCELLED else ExitCode.FAILURE)


@app.command()
def watch(
    task_uuid: TaskUuid,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Watch a task until it is settled.

    Shows every change from its first one on: on a terminal as a moving picture of its steps, otherwise as lines. The
    exit code is 0 if it is complete, else 1.
    """
    from tasker.ctl import watching  # here: most commands show nothing that moves

    output = Output(as_json=as_json)

    async def work() -> ExitCode:
        async with connected(address, timeout) as client:
            with output.busy(f"Asking {address}"):
                task = await client.get(task_uuid)
            return await watching.watch(client, task, output)

    raise typer.Exit(run(work()))


@app.command()
def steps(
    task_uuid: TaskUuid,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """List the steps of a task.

    With their results, oldest first; with --json one a line.
    """
    output = Output(as_json=as_json)
    found = ask(lambda client: client.steps(task_uuid), address, timeout, output)
    if not as_json:
        output.say(tables.step_table(found))
    for step in found if as_json else ():
        output.write(step)


async def _list(query: TaskQuery, limit: int | None, address: str, timeout: float, output: Output) -> None:
    """Print the tasks that match: as JSON while they come, for people when all are there."""
    found: list[Task] = []
    count = 0
    more = False
    async with connected(address, timeout) as client:
        with output.busy(f"Asking {address}"):
            size = _PAGE if limit is None else min(limit + 1, _PAGE)
            async for task in client.list(page_size=size, **query):
                if count == limit:
                    more = True
                    break
                count += 1
                if output.as_json:
                    output.write(task)
                else:
                    found.append(task)
    if output.as_json:
        return
    output.say(tables.task_table(found) if found else "No task matches.")
    if more:
        output.errors.print(
            f"There are more; --limit N shows more than {limit}, --all shows all.", style="dim"
        )


def _show_created(task: Task, output: Output, *, alone: bool, streaming: bool) -> None:
    """Say that a task was created: in a line, or as the first of the objects to come."""
    if output.as_json:
        if alone:
            output.write(task)
        elif streaming:
            output.write(task, type="task")
        return
    found = "was created by an earlier call with this key" if task.already_existed else "is created"
    output.say(f"Task {task.task_uuid} ({tables.template_name(task)}) {found}.")


def _show_task(task: Task, output: Output) -> None:
    if output.as_json:
        output.write(task)
    else:
        output.say(tables.task_details(task))
