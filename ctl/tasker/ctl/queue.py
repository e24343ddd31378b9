"""`tasker queue`: what waits in the queues, and whether workers take it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import typer

from tasker.client import PoisonMessage, TaskerClient
from tasker.ctl import queue_views
from tasker.ctl.acting import Actor, login
from tasker.ctl.limits import Everything, Limit, show_some
from tasker.ctl.options import with_options
from tasker.ctl.prefixes import UuidPrefix, find_task, uuid_prefix
from tasker.ctl.remote import Service

app = typer.Typer(no_args_is_help=True)

Namespace = Annotated[str, typer.Argument(metavar="NAMESPACE", help="The namespace.", show_default=False)]


@app.callback()
def queue() -> None:
    """Show queues and poison messages; pause namespaces."""


@app.command("list")
@with_options
def list_queues(
    namespace: Annotated[str | None, typer.Option(metavar="TEXT", help="Only this namespace.")] = None,
    *,
    service: Service,
) -> None:
    """List the queues with what waits in them and who serves them.

    READY can be taken now, DELAYED was put back for later. With --json one a line.
    """
    found = service.ask(lambda client: client.operations.queues(namespace))
    service.output.show_all(found, queue_views.queue_table, none="No queue matches.")


@app.command()
@with_options
def pause(namespace: Namespace, *, actor: Actor, service: Service) -> None:
    """Keep workers from claiming steps of a namespace.

    Steps that run are finished, and tasks can still be created: their steps wait. It holds until `tasker queue resume`.
    """
    done = service.ask(
        lambda client: client.operations.pause_namespace(
            namespace, requested_by=actor.name, reason=actor.reason
        )
    )
    service.output.show(done, queue_views.pause_line)


@app.command()
@with_options
def resume(
    namespace: Namespace,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who acts; the name of your login by default.")
    ] = None,
    *,
    service: Service,
) -> None:
    """Let workers claim steps of a paused namespace again."""
    changed = service.ask(
        lambda client: client.operations.resume_namespace(namespace, requested_by=by or login())
    )
    if service.output.as_json:
        service.output.write({"namespace": namespace, "changed": changed})
    else:
        service.output.say(queue_views.resume_line(namespace, changed=changed))


@app.command()
@with_options
def poison(
    task: Annotated[
        UuidPrefix | None,
        typer.Option(parser=uuid_prefix, metavar="TASK_UUID", help="Only those that named this task."),
    ] = None,
    limit: Limit = 20,
    everything: Everything = False,
    *,
    service: Service,
) -> None:
    """List messages that nobody could handle, newest first.

    Their steps are in error, and run again when they are retried.
    """

    async def ask(client: TaskerClient) -> AsyncIterator[PoisonMessage]:
        task_uuid = await find_task(client, task) if task is not None else None
        async for message in client.operations.poison(task_uuid=task_uuid):
            yield message

    show_some(ask, None if everything else limit, queue_views.poison_table, "No message is poison.", service)


@app.command()
@with_options
def requeue(
    poison_id: Annotated[
        int, typer.Argument(metavar="ID", help="The message, as `tasker queue poison` lists it.")
    ],
    *,
    actor: Actor,
    service: Service,
) -> None:
    """Let the step of a poison message run again."""
    done = service.ask(
        lambda client: client.operations.requeue_poison(
            poison_id, performed_by=actor.name, reason=actor.reason
        )
    )
    service.output.show(done, queue_views.requeued_line)
