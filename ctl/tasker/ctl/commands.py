"""The command line as a whole: which options it has, and what becomes of a command's errors."""

from __future__ import annotations

from typing import Annotated

import typer

from tasker.ctl.failures import ExitCode, complain, failure_of, usage_failure
from tasker.ctl.lazy import AllCommands

app = typer.Typer(
    name="tasker",
    cls=AllCommands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # its traces show variables, and those hold the database's password
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from tasker.version import VERSION  # here: to look it up takes longer than all the rest of the help

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


def run_command() -> int:
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
        complain(failure)
        return failure.exit_code
    return code if isinstance(code, int) else ExitCode.CLEAN


def _refuse(error: typer.TyperException) -> ExitCode:
    """Say what is wrong with the arguments; the help, where a command was given none."""
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is not None and error.message == context.get_help():
        typer.echo(error.message, err=True)
    else:
        complain(usage_failure(error))
    return ExitCode.USAGE
