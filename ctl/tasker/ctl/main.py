"""The command line's entry point."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, NoReturn, cast

import typer
from rich.console import Console
from rich.text import Text

from tasker.ctl import demo, dev, health, migrate, orchestration, task, template, worker
from tasker.ctl.failures import ExitCode, Failure, failure_of, usage_failure
from tasker.ctl.output import shown
from tasker.ctl.running import LEFTOVER_SECONDS
from tasker.version import VERSION

app = typer.Typer(
    name="tasker",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # its traces show variables, and those hold the database's password
)
app.add_typer(task.app)
app.add_typer(template.app)
app.command("health")(health.health)
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


def main() -> NoReturn:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until a service listens: tidy up, then exit
    for stream in (sys.stdout, sys.stderr):  # a sign that a terminal does not know is no reason to fail
        cast("TextIOWrapper", stream).reconfigure(errors="replace")
    code: int = ExitCode.FAILURE  # what the interpreter makes of an error that nobody expected
    try:
        code = execute()
    finally:
        _end_soon(code)
    sys.exit(code)


def _end_soon(code: int) -> None:
    """Let the process end by itself, but not wait for ever for threads that were given up, whose ever they are."""
    for stream in (sys.stdout, sys.stderr):  # first of all: whoever reads it may take as long as he likes
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    last = threading.Timer(LEFTOVER_SECONDS, os._exit, [code])
    last.daemon = True
    last.start()
    logging.shutdown()  # which would happen by itself, but only after the last thread


def execute() -> int:
    """Run the command that the arguments name; errors people can act on end it with one line on stderr.

    Returns:
        The exit code.
    """
    try:
        code = app(standalone_mode=False, prog_name="tasker")
    except SystemExit as done:  # nobody reads what is printed
        code = done.code
    except typer.TyperException as error:
        return _refuse(error)
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        _complain(failure)
        return failure.exit_code
    return code if isinstance(code, int) else ExitCode.CLEAN


def _refuse(error: typer.TyperException) -> int:
    """Say what is wrong with the arguments; the help, where a command was given none."""
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is not None and error.message == context.get_help():
        typer.echo(error.message, err=True)
    else:
        _complain(usage_failure(error))
    return ExitCode.USAGE


def _complain(failure: Failure) -> None:
    if "--json" in sys.argv[1:]:
        typer.echo(failure.json, err=True)
        return
    line = Text("error: ", style="bold red") + shown(failure.line)
    Console(stderr=True, soft_wrap=True, highlight=False).print(line)


if __name__ == "__main__":
    main()
