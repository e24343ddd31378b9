"""From the name in a template to a handler that runs (spec 30 section 9)."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tasker.domain.errors import TaskerError
from tasker.worker.handlers import discovery
from tasker.worker.handlers.classes import DEFAULT_METHOD, StepHandler, class_handler
from tasker.worker.handlers.discovery import Problem
from tasker.worker.handlers.errors import (
    DuplicateHandlerError,
    HandlerDefinitionError,
    HandlerImportError,
    HandlerMethodNotFoundError,
    HandlerNotFoundError,
)
from tasker.worker.handlers.functions import function_handler, marked_handler
from tasker.worker.handlers.handler import Handler, origin_of

_Target = Handler | StepHandler | type[StepHandler]


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a walk over modules found.

    Attributes:
        handlers: Names now registered that were not before.
        problems: What was left out and why.
    """

    handlers: tuple[str, ...]
    problems: tuple[Problem, ...]


class HandlerRegistry:
    """The handlers of one worker; there is no global one, and decorating registers nothing.

    A name is looked up among the registered handlers first, then as a dotted path to a class, an instance or
    a decorated function.
    """

    def __init__(self) -> None:
        self._targets: dict[str, _Target] = {}
        self._resolved: dict[tuple[str, str], Handler] = {}

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def callables(self) -> tuple[str, ...]:
        """Return every name a handler is known to answer to, sorted."""
        return tuple(sorted(self._targets))

    def register(self, target: Any, *, name: str | None = None) -> str:
        """Add a decorated function, a `StepHandler` class or an instance, and return its name.

        Args:
            target: The handler. With `name` it may be an undecorated function too.
            name: What templates call it; its own name by default.

        Raises:
            HandlerDefinitionError: It is no handler, or one that cannot work.
            DuplicateHandlerError: Another handler has the name; adding the same one again changes nothing.
        """
        compiled = _as_target(target)
        if compiled is None or (isinstance(compiled, Handler) and name is not None and name != compiled.name):
            if name is None or not callable(target) or isinstance(target, type):
                raise HandlerDefinitionError(
                    f"{origin_of(target)} is no handler: decorate a function with @step_handler, or derive "
                    "a class from StepHandler"
                )
            compiled = function_handler(target, name)
        if not isinstance(compiled, Handler):
            name = name or class_handler(compiled).name
            class_handler(compiled, name)  # says now, not at the first execution, what is wrong with it
        name = name or _own_name(compiled)
        taken = self._targets.setdefault(name, compiled)
        if taken is not compiled:
            raise DuplicateHandlerError(name, _origin(taken), _origin(compiled))
        return name

    def discover(self, where: str | Path | ModuleType) -> Discovery:
        """Register every handler in a module, and in all modules under it if it is a package.

        A module that does not import and a handler that cannot work are left out and reported; the rest is
        found. Classes need a `handler_name` of their own; a handler that several modules import is registered
        once.

        Args:
            where: A module, its dotted name, or the path of a file or directory.
        """
        found: list[str] = []
        problems: list[Problem] = []
        for module in _modules(where):
            if isinstance(module, Problem):
                problems.append(module)
                continue
            for target in _handlers_in(module):
                before = len(self)
                try:
                    name = self.register(target)
                except TaskerError as exc:
                    problems.append(Problem(origin_of(target), exc))
                else:
                    if len(self) > before:
                        found.append(name)
        return Discovery(tuple(found), tuple(problems))

    def resolve(self, callable_name: str, method: str | None = None) -> Handler:
        """Return the handler that a template's `handler.callable` and `handler.method` name.

        Raises:
            HandlerNotFoundError: Nothing that can work answers to the name; lists the names that are known.
            HandlerMethodNotFoundError: The handler has no such public method.
            HandlerImportError: The name is a path into a module that does not import.
        """
        key = (callable_name, method or DEFAULT_METHOD)
        if key not in self._resolved:
            target = self._targets.get(callable_name)
            if target is None:
                target = self._look_up(callable_name)
            try:
                self._resolved[key] = _compile(target, callable_name, key[1])
            except HandlerDefinitionError as exc:
                raise HandlerNotFoundError(callable_name, self._targets, str(exc)) from exc
            self._targets.setdefault(callable_name, target)
        return self._resolved[key]

    def _look_up(self, path: str) -> _Target:
        """Return what a dotted path leads to.

        Only a module or attribute that does not exist means "not found": a module that breaks is reported.
        """
        module_name, _, attribute = path.rpartition(".")
        if not module_name or not all(part.isidentifier() for part in path.split(".")):
            raise HandlerNotFoundError(path, self._targets)
        try:
            module = discovery.import_module(module_name)
        except ModuleNotFoundError:
            raise HandlerNotFoundError(path, self._targets, f"there is no module {module_name!r}") from None
        found = getattr(module, attribute, None)
        if found is None:
            raise HandlerNotFoundError(path, self._targets, f"{module_name!r} has no {attribute!r}")
        target = _as_target(found)
        if target is None:
            raise HandlerNotFoundError(
                path, self._targets, "that is neither decorated with @step_handler nor a StepHandler"
            )
        return target


def load_handlers(
    *where: str | Path | ModuleType, registry: HandlerRegistry | None = None
) -> HandlerRegistry:
    """Register all handlers of modules, packages, files and directories, and insist that all of them work.

    For start-up and for `PYTHON_HANDLER_PATH`: a handler that is silently missing would only show much later,
    as a step nobody can run.

    Args:
        where: Dotted names, or paths of files and directories. A text that names an existing path is a path.
        registry: Where to register; a new one by default.

    Raises:
        HandlerImportError: A module does not import; names it, and its own error is the cause.
        HandlerDefinitionError: A handler cannot work, or two share a name.
    """
    registry = HandlerRegistry() if registry is None else registry
    problems = [problem for one in where for problem in registry.discover(one).problems]
    if problems:
        error = problems[0].error
        for other in problems[1:]:
            error.add_note(f"also: {other}")
        raise error
    return registry


def _modules(where: str | Path | ModuleType) -> Iterator[ModuleType | Problem]:
    if isinstance(where, ModuleType):
        return discovery.walk(where)
    path = Path(where)
    if isinstance(where, Path) or os.sep in where or where.endswith(".py") or path.exists():
        if path.exists():
            return discovery.walk_path(path)
        missing = FileNotFoundError(f"{path.absolute()} does not exist")
        return iter([Problem(str(where), HandlerImportError(str(where), missing))])
    try:
        return discovery.walk(discovery.import_module(where))
    except ModuleNotFoundError as exc:
        error = HandlerImportError(where, exc)
        error.__cause__ = exc
    except HandlerImportError as exc:
        error = exc
    return iter([Problem(where, error)])


def _handlers_in(module: ModuleType) -> Iterator[object]:
    """Yield the module's handlers in the order of their definition."""
    for value in list(vars(module).values()):
        if isinstance(value, type):
            # An inherited name belongs to the parent; a class without one is meant to be derived from.
            named = issubclass(value, StepHandler) and value.__dict__.get("handler_name")
            if named and not inspect.isabstract(value):
                yield value
        elif marked_handler(value) is not None or (isinstance(value, StepHandler) and value.handler_name):
            yield value


def _as_target(value: object) -> _Target | None:
    if isinstance(value, type):
        return value if issubclass(value, StepHandler) else None
    return value if isinstance(value, StepHandler) else marked_handler(value)


def _compile(target: _Target, callable_name: str, method: str) -> Handler:
    if not isinstance(target, Handler):
        return class_handler(target, callable_name, method)
    if method != DEFAULT_METHOD:
        raise HandlerMethodNotFoundError(callable_name, method, "it is a function, which has no methods")
    return target


def _own_name(target: _Target) -> str:
    return target.name if isinstance(target, Handler) else class_handler(target).name


def _origin(target: _Target) -> str:
    return target.origin if isinstance(target, Handler) else origin_of(target)
