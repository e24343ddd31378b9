"""How much of a long list a command shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, TypeVar

import typer
from rich.console import RenderableType

from tasker.client import TaskerClient
from tasker.ctl.event_loop import run
from tasker.ctl.remote import Service

Record = TypeVar("Record")

Limit = Annotated[int, typer.Option(min=1, metavar="N", help="How many at most.")]
Everything = Annotated[bool, typer.Option("--all", help="As many as there are.")]


def show_some(
    ask: Callable[[TaskerClient], AsyncIterator[Record]],
    limit: int | None,
    look: Callable[[Sequence[Record]], RenderableType],
    none: str,
    service: Service,
) -> None:
    """Print the first records of a list: as JSON while they come, for people when all are there.

    Args:
        ask: Asks for the list.
        limit: How many to print at most; all of them if None.
        look: How they look to people.
        none: What to tell people if there are none.
        service: Whom to ask.
    """

    async def work() -> None:
        output = service.output
        found: list[Record] = []
        count = 0
        more = False
        async with service.connected() as client:
            with service.busy():
                async for record in ask(client):
                    if count == limit:
                        more = True
                        break
                    count += 1
                    if output.as_json:
                        output.write(record)
                    else:
                        found.append(record)
        if output.as_json:
            return
        output.say(look(found) if found else none)
        if more:
            output.errors.print(
                f"There are more; --limit N shows more than {limit}, --all shows all.", style="dim"
            )

    run(work())
