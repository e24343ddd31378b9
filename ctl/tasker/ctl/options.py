"""Commands whose options are converted only if they have to be.

Typer converts every option through pydantic, even those that nobody gave. To import that takes longer than a call.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption


class LazyOption(TyperOption):
    """An option that leaves its default and what is wanted as text as they are."""

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


def _with_lazy_options(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if isinstance(parameter, TyperOption):
            parameter.__class__ = LazyOption  # Typer makes them itself, and lets nobody choose the class
    return parameters
