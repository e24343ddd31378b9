"""`tasker health`: how the service is."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group, RenderableType

from tasker.client import Health, HealthProbe
from tasker.ctl import tables
from tasker.ctl.failures import ExitCode
from tasker.ctl.options import with_options
from tasker.ctl.output import brief, shown
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
    service.output.show(found, _details)
    raise typer.Exit(ExitCode.CLEAN if found.status in ("healthy", "ready") else ExitCode.FAILURE)


def _details(health: Health) -> RenderableType:
    """Return what a probe found."""
    facts: list[tuple[str, object]] = [("status", tables.state(health.status))]
    if health.info is not None:
        facts += [
            ("version", health.info.version),
            ("environment", health.info.environment),
            ("operation", health.info.operational_state),
        ]
    if not health.checks:
        return tables.facts(facts)
    checks = tables.table("CHECK", "STATUS", "MS", "FOUND", right=("MS",))
    for name, check in health.checks.items():
        checks.add_row(
            shown(name),
            tables.state(check.status),
            str(check.duration_ms),
            brief(check.message or "", tables.CELL),
        )
    return Group(tables.facts(facts), "", checks)
