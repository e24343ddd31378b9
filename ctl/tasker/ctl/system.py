"""`tasker system`: how work went lately, what holds it up, and what the service is set to."""

from __future__ import annotations

from typing import Annotated

import typer

from tasker.ctl import system_views
from tasker.ctl.options import with_options
from tasker.ctl.remote import Service

app = typer.Typer(no_args_is_help=True)


@app.callback()
def system() -> None:
    """Show how work goes, and what the service is set to."""


@app.command()
@with_options
def metrics(
    hours: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The last so many; 24 by default, 0 for all time.")
    ] = None,
    *,
    service: Service,
) -> None:
    """Show what became of the tasks that were created lately.

    The service keeps an answer for a minute. Of many tasks the newest 10,000 are looked at.
    """
    found = service.ask(lambda client: client.analytics.metrics(hours=hours))
    service.output.show(found, system_views.metrics_details)


@app.command()
@with_options
def bottlenecks(
    limit: Annotated[
        int | None, typer.Option(min=1, max=1000, metavar="N", help="How many at most; 10 by default.")
    ] = None,
    min_executions: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Leave out what ran less often; 5 by default.")
    ] = None,
    *,
    service: Service,
) -> None:
    """Show which steps and templates are slow, and what a person might look at."""
    found = service.ask(
        lambda client: client.analytics.bottlenecks(limit=limit, min_executions=min_executions)
    )
    service.output.show(found, system_views.bottleneck_details)


@app.command()
@with_options
def config(*, service: Service) -> None:
    """Show the settings of the service, without its secrets."""
    found = service.ask(lambda client: client.config.get())
    service.output.show(found, system_views.config_details)
