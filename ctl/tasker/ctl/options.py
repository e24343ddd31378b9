"""Options that many commands share, and options that are converted only if they have to be.

Typer converts every option through pydantic, even those that nobody gave. To import that takes longer than a call.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final

from typer import BadParameter
from typer.core import TyperCommand, TyperGroup, TyperOption

#: What pydantic puts before what a check of a value said.
_OF_PYDANTIC: Final = "Value error, "


class LazyOption(TyperOption):
    """An option that leaves its default and what is wanted as text as they are."""

    def get_runtime_param(self) -> Any:
        """Return what converts a value: itself."""
        return self

    def coerce(self, value: Any, param: TyperOption, ctx: Any) -> Any:
        """Return a value as the command takes it."""
        if isinstance(value, str):  # from the environment: arguments have been checked
            check_text(value, ctx=ctx, param=param)
        if value is None and self.multiple:
            return ()
        if value is self.default or (self._takes_text and isinstance(value, str)):
            return value
        try:
            return super().get_runtime_param().coerce(value, param=param, ctx=ctx)
        except BadParameter as error:
            error.message = error.message.removeprefix(_OF_PYDANTIC)
            raise

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


def check_text(given: str, **where: Any) -> None:
    """Refuse what is not in the encoding of the terminal: nothing that it names could be asked for.

    Raises:
        BadParameter: It is no text.
    """
    try:
        given.encode()
    except UnicodeEncodeError:
        spelt = os.fsencode(given).decode("utf-8", "backslashreplace")
        raise BadParameter(f"'{spelt}' is no UTF-8 text", **where) from None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command as Typer can read it: what is made of several options is replaced by these.

    That is each parameter whose class has a method `from_options`, and its options are the parameters of that.
    """
    made = {
        name: parameter.annotation.from_options
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if hasattr(parameter.annotation, "from_options")
    }

    @wraps(command)
    def call(**options: Any) -> None:
        for name, make in made.items():
            options[name] = make(**{one: options.pop(one) for one in inspect.signature(make).parameters})
        command(**options)

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in _spread(command, made)]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


def _spread(command: Callable[..., None], made: dict[str, Callable[..., Any]]) -> Iterator[inspect.Parameter]:
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if name in made:
            yield from inspect.signature(made[name], eval_str=True).parameters.values()
        else:
            yield parameter
