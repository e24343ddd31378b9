"""Typer's commands and options, made to import only what the command line at hand asks for."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

#: In the order of the help. Each is the function of that name in the module of that name; a group is its callback,
#: and the module's `app` holds what is in it.
COMMANDS: Final = ("health", "demo", "dev", "migrate", "orchestration", "worker", "task", "template")


class LazyOption(TyperOption):
    """An option that is converted only if it has to be: the import of what does it takes longer than a call."""

    def get_runtime_param(self) -> Any:
        """Return what converts a value: itself."""
        return self

    def coerce(self, value: Any, param: TyperOption, ctx: Any) -> Any:
        """Return a value as the command takes it."""
        if value is None and self.multiple:
            return ()
        if value is self.default or (self._takes_text and isinstance(value, str)):
            return value
        return super().get_runtime_param().coerce(value, param=param, ctx=ctx)

    @property
    def _takes_text(self) -> bool:
        wanted = self.type_descriptor
        return wanted.annotation is str and wanted.parameter_info.parser is None


class LazyCommand(TyperCommand):
    """A command with lazy options."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return its parameters."""
        return _with_lazy_options(super().get_params(ctx))


class LazyGroup(TyperGroup):
    """A group with lazy options."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return its parameters."""
        return _with_lazy_options(super().get_params(ctx))


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


def _with_lazy_options(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if isinstance(parameter, TyperOption):
            parameter.__class__ = LazyOption
    return parameters


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
