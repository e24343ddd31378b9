"""`tasker health`: how the service is."""

from __future__ import annotations

from typing import Annotated

import typer

from tasker.client import HealthProbe
from tasker.ctl import tables
from tasker.ctl.failures import ExitCode
from tasker.ctl.output import Output
from tasker.ctl.remote import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, Address, AsJson, Timeout, ask


def health(
    probe: Annotated[
        HealthProbe,
        typer.Option(
            help="basic: it answers. ready: it can take work. detailed: every check, whatever they say."
        ),
    ] = "detailed",
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Show how the orchestration service is.

    The exit code is 0 if it is well, 1 if it is degraded, 5 if it cannot be reached or is not ready.
    """
    output = Output(as_json=as_json)
    found = ask(lambda client: client.health(probe), address, timeout, output)
    if as_json:
        output.write(found)
    else:
        output.say(tables.health_details(found))
    raise typer.Exit(ExitCode.CLEAN if found.status in ("healthy", "ready") else ExitCode.FAILURE)
