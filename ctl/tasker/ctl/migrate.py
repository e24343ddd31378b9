"""`tasker migrate`: bring a database's schema up to this version."""

from __future__ import annotations

from typing import Annotated

import typer

from tasker.config.settings import Settings
from tasker.persistence import migrations
from tasker.persistence.database import conninfo


def migrate(
    phase: Annotated[
        migrations.Phase | None,
        typer.Option(help="Only what is due before (pre) or after (post) the code changes; both by default."),
    ] = None,
) -> None:
    """Bring a database's schema up to date.

    The database is the one that DATABASE_URL names. Nothing else but `dev` and `demo` ever changes a schema.
    """
    settings = Settings.load()
    url = conninfo(settings.database_url.get_secret_value(), application_name="tasker-migrate")
    phases: tuple[migrations.Phase, ...] = ("pre", "post") if phase is None else (phase,)
    applied = migrations.migrate(url, phases=phases)
    for migration in applied:
        typer.echo(f"applied {migration.version:04}_{migration.name} ({migration.phase})")
    if not applied:
        typer.echo("nothing to apply, the schema is up to date")
