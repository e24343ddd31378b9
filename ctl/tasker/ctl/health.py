"""`tasker health`: how the service is."""

from __future__ import annotations

from typing import Annotated

import typer

from tasker.client import HealthProbe
from tasker.ctl import tables
from tasker.ctl.failures import ExitCode
from tasker.ctl.options import with_options
from tasker.ctl.remote import Service


@with_options
def health(
    probe: Annotated[
        HealthProbe,
        typer.Option(
            help="basic: it answers. ready: it can take work. detailed: every check, whatever they say."
        ),
    ] = "detailed",
    *,
    service: Service,
) -> None:
    """Show how the orchestration service is.

    The exit code is 0 if it is well, 1 if it is degraded, 5 if it cannot be reached or is not ready.
    """
    found = service.ask(lambda client: client.health(probe))
    service.output.show(found, tables.health_details)
    raise typer.Exit(ExitCode.CLEAN if found.status in ("healthy", "ready") else ExitCode.FAILURE)
