"""A handler ready to run: what functions, classes and instances all come down to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from tasker.domain.storable import serialization_problem
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.injection import InjectionPlan


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """Something the worker can execute.

    Attributes:
        name: Name it answers to in templates.
        version: The author's version of the handler; stored with every result.
        is_async: Whether `call` runs on the event loop; otherwise it gets a thread.
        call: Runs it once and returns what the author's code returned.
        origin: Module and qualified name, for messages.
        place: File and line of a function, empty if it has none.
        plan: Where a function's arguments come from; None for class handlers.
        finish: Turns what the author's code returned into what the step returns; None takes it as it is.
    """

    name: str
    version: str
    is_async: bool
    call: Callable[[StepContext], Any]
    origin: str
    plan: InjectionPlan | None = None
    finish: Callable[[object], object] | None = None
    place: str = ""


def origin_of(target: object) -> str:
    """Return how messages call a function, class or instance: `shop.handlers.charge_card`."""
    named = target if hasattr(target, "__qualname__") else type(target)
    return f"{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', repr(target))}"


def code_place(function: Callable[..., object]) -> str:
    """Return the file and line of a function's code, empty if it has none."""
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, CodeType) else ""


def text_problem(value: object) -> str | None:
    """Return why a value cannot be the name or the version of a handler, or None; both are stored as text."""
    if not isinstance(value, str):
        return f"is of type {type(value).__name__}"
    problem = serialization_problem(value)
    return None if problem is None else problem.removeprefix("the value ")
