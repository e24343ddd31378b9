"""`tasker dlq`: tasks that wait for a person."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from tasker.client import DlqEntry, DlqReason, NotFoundError, ResolutionStatus, SentToDlq, TaskerClient
from tasker.ctl import dlq_views
from tasker.ctl.acting import Actor, login
from tasker.ctl.arguments import json_object
from tasker.ctl.limits import Everything, Limit, show_some
from tasker.ctl.options import with_options
from tasker.ctl.prefixes import TaskPrefix, UuidPrefix, find_task, the_one, uuid_prefix
from tasker.ctl.remote import Service

app = typer.Typer(no_args_is_help=True)

#: Among how many of the newest entries one is looked for, unless the whole uuid of its task is given.
MOST_ENTRIES: Final = 1000
_PAGE: Final = 100

EntryPrefix = Annotated[
    UuidPrefix,
    typer.Argument(
        parser=uuid_prefix,
        metavar="UUID",
        help="The task, or its entry: the uuid or the beginning of it. Of a task its newest entry is meant.",
        show_default=False,
    ),
]


@app.callback()
def dlq() -> None:
    """Show tasks that wait for a person; close their entries."""


@app.command("list")
@with_options
def list_entries(
    status: Annotated[ResolutionStatus | None, typer.Option(help="Only entries of this status.")] = None,
    reason: Annotated[DlqReason | None, typer.Option(help="Only entries of this reason.")] = None,
    limit: Limit = 20,
    everything: Everything = False,
    *,
    service: Service,
) -> None:
    """List entries, newest first, those that are closed included."""
    show_some(
        lambda client: client.dlq.list(status=status, reason=reason),
        None if everything else limit,
        dlq_views.entry_table,
        "No entry matches.",
        service,
    )


@app.command("queue")
@with_options
def show_queue(limit: Limit = 20, everything: Everything = False, *, service: Service) -> None:
    """List what waits for a person, most urgent first."""
    show_some(
        lambda client: client.dlq.queue(),
        None if everything else limit,
        dlq_views.queue_table,
        "Nothing waits for a person.",
        service,
    )


@app.command()
@with_options
def staleness(limit: Limit = 20, everything: Everything = False, *, service: Service) -> None:
    """List open tasks by how near they are to being stale."""
    show_some(
        lambda client: client.dlq.staleness(),
        None if everything else limit,
        dlq_views.staleness_table,
        "No task is open.",
        service,
    )


@app.command()
@with_options
def stats(*, service: Service) -> None:
    """Show how many entries there are for which reason, and what became of them."""
    found = service.ask(lambda client: client.dlq.stats())
    service.output.show_all(found, dlq_views.stats_table, none="There are no entries.")


@app.command()
@with_options
def show(entry: EntryPrefix, *, service: Service) -> None:
    """Show an entry, with what its task looked like when it was made."""

    async def ask(client: TaskerClient) -> DlqEntry:
        return await find_entry(client, entry)

    service.output.show(service.ask(ask), dlq_views.entry_details)


@app.command()
@with_options
def update(
    entry: EntryPrefix,
    status: Annotated[
        ResolutionStatus | None, typer.Option(help="What became of it; an entry that is closed stays so.")
    ] = None,
    notes: Annotated[str | None, typer.Option(metavar="TEXT", help="What was found.")] = None,
    metadata: Annotated[
        dict[str, Any] | None,
        typer.Option(
            parser=json_object,
            metavar="JSON|@FILE",
            help="Facts to keep instead of those there are: a JSON object.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who found it; the name of your login by default.")
    ] = None,
    *,
    service: Service,
) -> None:
    """Write down what was found out about a task, or close its entry; nothing happens to the task."""
    if status is None and notes is None and metadata is None:
        raise typer.BadParameter("say what to write down: --status, --notes or --metadata")

    async def ask(client: TaskerClient) -> DlqEntry:
        entry_uuid, changed_at = await _named(client, entry)
        return await client.dlq.update(
            entry_uuid,
            status=status,
            notes=notes,
            metadata=metadata,
            resolved_by=by or login(),
            expected_updated_at=changed_at,
        )

    service.output.show(service.ask(ask), dlq_views.entry_line)


@app.command()
@with_options
def add(task: TaskPrefix, *, actor: Actor, service: Service) -> None:
    """Put a task before a person; nothing happens to the task.

    If it has a pending entry already, that one stays.
    """

    async def ask(client: TaskerClient) -> SentToDlq:
        return await client.operations.send_to_dlq(
            await find_task(client, task), requested_by=actor.name, reason=actor.reason
        )

    service.output.show(service.ask(ask), lambda sent: dlq_views.entry_line(sent.entry))


async def _named(client: TaskerClient, prefix: UuidPrefix) -> tuple[UUID, datetime | None]:
    """Return the uuid of an entry, and when it was changed last, if it had to be read for the uuid."""
    if prefix.uuid is None:
        found = await find_entry(client, prefix)
    elif (of_task := await _of_task(client, prefix.uuid)) is not None:
        found = of_task
    else:
        return prefix.uuid, None
    return found.dlq_entry_uuid, found.updated_at


async def _of_task(client: TaskerClient, uuid: UUID) -> DlqEntry | None:
    """Return the newest entry of a task; None if the uuid is no task's that has one: it may be an entry's."""
    with suppress(NotFoundError):
        return await client.dlq.get(uuid)
    return None


async def find_entry(client: TaskerClient, prefix: UuidPrefix) -> DlqEntry:
    """Return the newest entry of a task, or the entry itself.

    Raises:
        CommandError: No task that ever had an entry, nor an entry, is among the newest whose uuid begins so; or more
            than one is.
    """
    if prefix.uuid is not None and (of_task := await _of_task(client, prefix.uuid)) is not None:
        return of_task
    found: dict[UUID, DlqEntry] = {}
    seen, within = 0, ""
    async for entry in client.dlq.list(page_size=_PAGE):
        if prefix.fits(entry.dlq_entry_uuid) or prefix.fits(entry.task_uuid):
            found.setdefault(entry.task_uuid, entry)
        seen += 1
        if seen == MOST_ENTRIES:
            within = f" among the newest {MOST_ENTRIES:,} entries; give the task's uuid"
            break
    fitting = [(task, f"{entry.dlq_reason}, {entry.resolution_status}") for task, entry in found.items()]
    return found[the_one(prefix, "entry", fitting, within=within)]
