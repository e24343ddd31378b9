"""The command line's entry point."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from tasker.ctl import demo, dev, migrate, orchestration, worker
from tasker.ctl.failures import failure_of
from tasker.version import VERSION

app = typer.Typer(
    name="tasker",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # its traces show variables, and those hold the database's password
)
app.command("demo")(demo.demo)
app.command("dev")(dev.dev)
app.command("migrate")(migrate.migrate)
app.command("orchestration")(orchestration.orchestration)
app.command("worker")(worker.worker)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tasker {VERSION}")
        raise typer.Exit


@app.callback()
def tasker(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Workflow orchestration on PostgreSQL and PGMQ, gRPC-first."""


def main() -> None:
    """Run the command line; errors people can act on end it with one line on stderr."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until a service listens: tidy up, then exit
    try:
        app()
    except SystemExit as done:
        if any(thread.name.startswith("handler") for thread in threading.enumerate()):
            _leave(done.code if isinstance(done.code, int) else 0)
        raise
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"[bold red]error:[/] {escape(failure.line)}"
        )
        _leave(failure.exit_code)


def _leave(code: int) -> NoReturn:
    """Exit now: threads of handlers that were given up would hold the interpreter until they end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
