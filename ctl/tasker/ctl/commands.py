"""All commands as one command line; each is imported when it is named, so that none pays for what another one needs."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from tasker.ctl.failures import ExitCode, complain, failure_of, usage_failure
from tasker.ctl.options import LazyCommand, LazyGroup, check_text

#: In the order of the help. Each is the function of that name in the module of that name; a group is its callback,
#: and the module's `app` holds what is in it.
COMMANDS: Final = (
    "health", "demo", "dev", "migrate", "orchestration", "worker", "task", "step", "dlq", "queue", "template",
    "system", "auth",
)  # fmt: skip


class AllCommands(LazyGroup):
    """The group of all commands: it imports one when it is asked for it, and none to list them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name; None if there is none."""
        return _imported(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what each command does, in a line."""
        listed = [TyperCommand(name=name, help=_docstring(name)) for name in COMMANDS]
        TyperGroup(commands=listed).format_commands(ctx, formatter)


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
        for argument in sys.argv[1:]:
            check_text(argument)
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


def _imported(name: str) -> Any:
    """Return a command, ready to run."""
    module = import_module(f"tasker.ctl.{name}")
    alone = typer.Typer(rich_markup_mode=None)
    if hasattr(module, "app"):
        for command in module.app.registered_commands:
            command.cls = LazyCommand
        alone.add_typer(module.app, name=name, cls=LazyGroup)
    else:
        alone.command(name, cls=LazyCommand)(getattr(module, name))
    return typer.main.get_group(alone).commands[name]


def _docstring(name: str) -> str | None:
    """Return what a command says of itself, read from its source: an import could take a second."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node)
    return None
