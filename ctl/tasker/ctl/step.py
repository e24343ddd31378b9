"""`tasker step`: the steps of a task, and what a person does about one that failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

import typer

from tasker.client import Step, StepIntervention, TaskerClient
from tasker.ctl import task_views
from tasker.ctl.acting import Actor
from tasker.ctl.arguments import Json, json_object, json_value
from tasker.ctl.options import with_options
from tasker.ctl.output import plain
from tasker.ctl.prefixes import StepName, TaskPrefix, UuidPrefix, find_step, find_task
from tasker.ctl.remote import Service
from tasker.ctl.step_listing import list_steps

app = typer.Typer(no_args_is_help=True)


@app.callback()
def step() -> None:
    """Show steps; retry, resolve or complete failed ones."""


app.command("list")(list_steps)


@app.command()
@with_options
def show(
    task: TaskPrefix,
    step: StepName,
    *,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where in the handler its last attempt failed, too.")
    ] = False,
    service: Service,
) -> None:
    """Show a step: its result, or why it failed and when it is tried again.

    And what a person did to it last.
    """

    async def ask(client: TaskerClient) -> tuple[Step, StepIntervention | None]:
        task_uuid = await find_task(client, task)
        step_uuid = await find_step(client, task_uuid, step)
        acts = await client.step_interventions(task_uuid, step_uuid)
        return await client.step(task_uuid, step_uuid), next(iter(acts), None)

    found, last = service.ask(ask)
    if service.output.as_json:
        service.output.write(found, last_intervention=plain(last))
    else:
        service.output.say(task_views.step_details(found, last, traceback=traceback))


@app.command()
@with_options
def retry(task: TaskPrefix, step: StepName, *, actor: Actor, service: Service) -> None:
    """Give a failed step all its attempts again; its task goes on."""

    async def act(client: TaskerClient, task_uuid: UUID, step_uuid: UUID) -> Step:
        return await client.reset_step(task_uuid, step_uuid, performed_by=actor.name, reason=actor.reason)

    _act(task, step, act, service)


@app.command()
@with_options
def resolve(task: TaskPrefix, step: StepName, *, actor: Actor, service: Service) -> None:
    """Declare a step done without a result: the steps behind it run."""

    async def act(client: TaskerClient, task_uuid: UUID, step_uuid: UUID) -> Step:
        return await client.resolve_step(task_uuid, step_uuid, performed_by=actor.name, reason=actor.reason)

    _act(task, step, act, service)


@app.command()
@with_options
def complete(
    task: TaskPrefix,
    step: StepName,
    *,
    result: Annotated[
        Json,
        typer.Option(
            parser=json_value,
            metavar="JSON|@FILE|@-",
            help="What the step is to have returned: JSON, here, in a file or on standard input.",
            show_default=False,
        ),
    ],
    metadata: Annotated[
        dict[str, Any] | None,
        typer.Option(
            parser=json_object,
            metavar="JSON|@FILE",
            help="Facts to keep with the result: a JSON object.",
            show_default=False,
        ),
    ] = None,
    actor: Actor,
    service: Service,
) -> None:
    """Give a step a result in place of its handler: the steps behind it read it and run."""

    async def act(client: TaskerClient, task_uuid: UUID, step_uuid: UUID) -> Step:
        return await client.complete_step(
            task_uuid,
            step_uuid,
            result.value,
            metadata=metadata,
            performed_by=actor.name,
            reason=actor.reason,
        )

    _act(task, step, act, service)


def _act(
    task: UuidPrefix,
    step: str,
    act: Callable[[TaskerClient, UUID, UUID], Awaitable[Step]],
    service: Service,
) -> None:
    """Do something to a step, and say where it is then."""

    async def ask(client: TaskerClient) -> Step:
        task_uuid = await find_task(client, task)
        return await act(client, task_uuid, await find_step(client, task_uuid, step))

    service.output.show(service.ask(ask), task_views.step_line)
