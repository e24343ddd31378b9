"""`tasker migrate`: bring a database's schema up to this version."""

from __future__ import annotations

from typing import Annotated

import typer

from tasker.config.settings import Settings
from tasker.persistence import migrations
from tasker.persistence.connections import conninfo
from tasker.persistence.schema_files import Phase


def migrate(
    phase: Annotated[
        Phase | None,
        typer.Option(help="Only what is due before (pre) or after (post) the code changes; both by default."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
) -> None:
    """Bring a database's schema up to date.

    The database is the one that DATABASE_URL names. Nothing else but `dev` and `demo` ever changes a schema.
    """
    settings = Settings.load()
    url = conninfo(settings.database_url.get_secret_value(), application_name="tasker-migrate")
    phases: tuple[Phase, ...] = ("pre", "post") if phase is None else (phase,)
    plan = migrations.plan(url, phases=phases) if dry_run else migrations.migrate(url, phases=phases)
    if plan.pgmq:
        typer.echo(f"{'would install' if dry_run else 'installed'} PGMQ")
    for migration in plan.migrations:
        typer.echo(f"{'would apply' if dry_run else 'applied'} {migration} ({migration.phase})")
    for file in plan.functions:
        typer.echo(f"{'would write' if dry_run else 'wrote'} {file}")
    for file, release in plan.newer:
        typer.echo(f"left {file} as release {release} wrote it")
    if not plan:
        typer.echo("nothing to apply, the schema is up to date")
