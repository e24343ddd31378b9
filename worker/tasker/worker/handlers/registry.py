"""From the name in a template to a handler that runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tasker.domain.errors import TaskerError
from tasker.domain.templates.offers import DEFAULT_METHOD, offer
from tasker.worker.handlers import discovery, importing
from tasker.worker.handlers.classes import StepHandler, class_handler, methods_of
from tasker.worker.handlers.contents import contents_in, instances_in
from tasker.worker.handlers.discovery import Problem
from tasker.worker.handlers.errors import (
    DuplicateHandlerError,
    HandlerDefinitionError,
    HandlerImportError,
    HandlerMethodNotFoundError,
    HandlerNotFoundError,
    HandlerResolutionError,
    ResolverNotFoundError,
)
from tasker.worker.handlers.functions import function_handler, is_text, marked_handler
from tasker.worker.handlers.handler import Handler, origin_of
from tasker.worker.handlers.resolvers import (
    ClassLookup,
    ExplicitMapping,
    HandlerDefinition,
    RegistryResolver,
)

_Target = Handler | StepHandler | type[StepHandler]

#: How many left-out modules the message about a missing handler lists.
_PROBLEMS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a walk over modules found.

    Attributes:
        handlers: Names of the handlers found there, each once, whether they were registered before or not.
        problems: What was left out and why.
    """

    handlers: tuple[str, ...]
    problems: tuple[Problem, ...]


class HandlerRegistry:
    """The handlers of one worker; there is no global one, and decorating registers nothing.

    A name is looked up among the registered handlers first, then by the resolvers that were added, then as a
    dotted path to a class, an instance or a decorated function.

    Attributes:
        problems: What discovery had to leave out so far.
    """

    def __init__(self) -> None:
        self._explicit = ExplicitMapping()
        self._resolvers: list[RegistryResolver] = [self._explicit, ClassLookup()]
        self._resolved: dict[tuple[str, str, str | None], Handler] = {}
        self._found: set[tuple[str, str, str | None]] = set()
        self._offers: tuple[str, ...] | None = None
        self.problems: list[Problem] = []

    def __len__(self) -> int:
        return len(self._explicit.targets)

    def __contains__(self, name: object) -> bool:
        return name in self._explicit.targets

    def callables(self) -> tuple[str, ...]:
        """Return every name a handler is known to answer to, sorted."""
        return tuple(sorted({*self._explicit.targets, *(name for name, _, _ in self._found)}))

    def offers(self) -> tuple[str, ...]:
        """Return what a worker can run with these handlers, as steps ask for it; sorted.

        That is every registered handler with each of its methods, and whatever was found by resolvers so far.
        """
        if self._offers is None:  # asked for with every claim
            found = {offer(*definition) for definition in self._found}
            for name, target in self._explicit.targets.items():
                found.add(offer(name))
                if isinstance(target, (StepHandler, type)):
                    found |= {offer(name, method) for method in methods_of(target)}
            self._offers = tuple(sorted(found))
        return self._offers

    def resolvers(self) -> tuple[str, ...]:
        """Return the names of the resolvers, in the order in which they are asked."""
        return tuple(resolver.name for resolver in self._resolvers)

    def register(self, target: Any, *, name: str | None = None) -> str:
        """Add a decorated function, a `StepHandler` class or an instance, and return its name.

        Args:
            target: The handler. With `name` it may be an undecorated function too.
            name: What templates call it; its own name by default.

        Raises:
            HandlerDefinitionError: It is no handler, or one that cannot work.
            DuplicateHandlerError: Another handler has the name; adding the same one again changes nothing.
        """
        if name is not None and not is_text(name):
            raise HandlerDefinitionError(
                f"{origin_of(target)} needs a text as its name, as in `name='shop.charge'`"
            )
        compiled = _as_target(target)
        if compiled is None:
            if name is None or not callable(target) or isinstance(target, type):
                raise HandlerDefinitionError(
                    f"{origin_of(target)} is no handler: decorate a function with @step_handler, or derive "
                    "a class from StepHandler"
                )
            compiled = function_handler(target, name)
        if isinstance(compiled, Handler):
            if name not in (None, compiled.name):
                compiled = replace(compiled, name=name)
        else:
            name = name or class_handler(compiled).name
            class_handler(compiled, name)  # says now, not at the first execution, what is wrong with it
        name = name or _own_name(compiled)
        taken = self._explicit.targets.setdefault(name, compiled)
        if taken is not compiled and not _is_same(taken, compiled):
            raise DuplicateHandlerError(name, _origin(taken), _origin(compiled))
        self._forget()
        return name

    def replace(self, target: Any, *, name: str | None = None) -> str:
        """Add a handler as `register` does, in the place of one that has its name; tests put stand-ins there.

        Raises:
            HandlerDefinitionError: It is no handler, or one that cannot work.
        """
        new = HandlerRegistry()
        name = new.register(target, name=name)
        self._explicit.targets[name] = new._explicit.targets[name]
        self._resolved.clear()
        return name

    def add_resolver(self, resolver: RegistryResolver) -> None:
        """Add a way of finding handlers; adding one of the same class again changes nothing.

        Raises:
            HandlerDefinitionError: It has no name, or another resolver has it.
        """
        if not resolver.name:
            raise HandlerDefinitionError(f"resolver {origin_of(resolver)} needs a `name`")
        try:
            re.compile(resolver.pattern or "")
        except re.error as exc:
            raise HandlerDefinitionError(
                f"resolver {resolver.name!r}: pattern {resolver.pattern!r} is no regular expression: {exc}"
            ) from exc
        for other in self._resolvers:
            if other.name == resolver.name:
                if type(other) is type(resolver):
                    return
                raise HandlerDefinitionError(
                    f"resolver name {resolver.name!r} is taken by {origin_of(other)}, so {origin_of(resolver)} "
                    "cannot have it; rename one"
                )
        self._resolvers.append(resolver)
        self._resolvers.sort(key=lambda one: one.priority)
        self._forget()

    def discover(self, where: str | Path | ModuleType) -> Discovery:
        """Register every handler in a module, and in all modules under it if it is a package.

        A module that does not import and a handler that cannot work are left out and reported; the rest is
        found, in names of the module, in its lists and dicts, and what its body defined in a loop. Classes need a
        `handler_name` of their own; a handler that several modules import is registered once. An instance with a
        name stands for its class, which is not registered then.

        Args:
            where: A module, its dotted name, or the path of a file or directory.
        """
        found: dict[str, None] = {}
        problems: list[Problem] = []
        modules = list(_modules(where))
        replaced = {type(one) for module in modules for one in instances_in(module)}
        for module in modules:
            if isinstance(module, Problem):
                problems.append(module)
                continue
            for target in contents_in(module):
                if isinstance(target, type) and target in replaced:
                    continue
                try:
                    if isinstance(target, type) and issubclass(target, RegistryResolver):
                        self.add_resolver(_made(target))
                    else:
                        found[self.register(target)] = None
                except TaskerError as exc:
                    problems.append(Problem(origin_of(target), exc))
        self.problems += problems
        return Discovery(tuple(found), tuple(problems))

    def resolve(self, callable_name: str, method: str | None = None, resolver: str | None = None) -> Handler:
        """Return the handler that a template's `handler` names.

        Args:
            callable_name: The template's `handler.callable`.
            method: Its `handler.method`.
            resolver: Its `handler.resolver`: the only one to ask.

        Raises:
            HandlerNotFoundError: Nothing that can work answers to the name; lists the names that are known.
            HandlerMethodNotFoundError: The handler has no such public method.
            HandlerImportError: The name is a path into a module that does not import.
            ResolverNotFoundError: There is no such resolver.
        """
        key = (callable_name, method or DEFAULT_METHOD, resolver)
        if key not in self._resolved:
            definition = HandlerDefinition(*key)
            try:
                target = self._find(definition)
                handler = _compile(target, callable_name, definition.method)
            except HandlerDefinitionError as exc:
                raise self._not_found(definition, str(exc)) from exc
            self._resolved[key] = handler
            self._found.add(key)
            self._offers = None
        return self._resolved[key]

    def _forget(self) -> None:
        """Ask anew for what was found: something that is asked earlier may answer now."""
        self._resolved.clear()
        self._offers = None

    def _find(self, definition: HandlerDefinition) -> _Target:
        """Ask the resolvers in the order of their priority, or the one that the template names."""
        reasons: list[str] = []
        for resolver in self._asked(definition):
            try:
                if definition.resolver is None and not resolver.can_resolve(definition):
                    continue
                found = resolver.resolve_handler(definition)
            except HandlerNotFoundError as exc:
                reasons += [exc.why] if exc.why else []
                continue
            except HandlerResolutionError:
                raise
            except Exception as exc:  # a resolver is the user's code
                failure = f"resolver {resolver.name!r} raised {type(exc).__name__}: {exc}"
                raise self._not_found(definition, failure) from exc
            if found is None:
                continue
            target = _as_target(found)
            if target is not None:
                return target
            reasons.append(
                f"resolver {resolver.name!r} found {origin_of(found)}, which is neither decorated with "
                "@step_handler nor a StepHandler"
            )
        if definition.resolver is not None and not reasons:
            reasons.append(f"resolver {definition.resolver!r} does not know it")
        raise self._not_found(definition, "; ".join(reasons))

    def _asked(self, definition: HandlerDefinition) -> list[RegistryResolver]:
        if definition.resolver is None:
            return self._resolvers
        named = [one for one in self._resolvers if one.name == definition.resolver]
        if not named:
            raise ResolverNotFoundError(definition.callable, definition.resolver, self.resolvers())
        return named

    def _not_found(self, definition: HandlerDefinition, reason: str) -> HandlerNotFoundError:
        left_out = [str(problem) for problem in self.problems[:_PROBLEMS_SHOWN]]
        return HandlerNotFoundError(definition.callable, self.callables(), reason, left_out)


def load_handlers(
    *where: str | Path | ModuleType, registry: HandlerRegistry | None = None
) -> HandlerRegistry:
    """Register all handlers of modules, packages, files and directories, for start-up.

    A module that does not import is left out if others of its place have handlers: `registry.problems` tells
    which, and the worker logs it. A place that has none at all because of that stops the start, and so does a
    handler that cannot work: the steps it should run would only fail later.

    Args:
        where: Dotted names, or paths of files and directories. A text that names an existing path is a path.
        registry: Where to register; a new one by default.

    Raises:
        HandlerImportError: A place has modules that do not import, and no handler besides; names one, and its
            own error is the cause.
        HandlerDefinitionError: A handler cannot work, or two share a name.
    """
    registry = HandlerRegistry() if registry is None else registry
    fatal: list[Problem] = []
    for one in where:
        found = registry.discover(one)
        fatal += [
            problem
            for problem in found.problems
            if not found.handlers or not isinstance(problem.error, HandlerImportError)
        ]
    if fatal:
        error = fatal[0].error
        for other in fatal[1:]:
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
        return discovery.walk(importing.import_module(where))
    except ModuleNotFoundError as exc:
        error = HandlerImportError(where, exc)
        error.__cause__ = exc
    except HandlerImportError as exc:
        error = exc
    return iter([Problem(where, error)])


def _as_target(value: object) -> _Target | None:
    if isinstance(value, type):
        return value if issubclass(value, StepHandler) else None
    return value if isinstance(value, (StepHandler, Handler)) else marked_handler(value)


def _made(resolver: type[RegistryResolver]) -> RegistryResolver:
    try:
        return resolver()
    except Exception as exc:  # its constructor is the user's code
        raise HandlerDefinitionError(
            f"resolver {resolver.name!r}: {origin_of(resolver)} cannot be made: {type(exc).__name__}: {exc}"
        ) from exc


def _compile(target: _Target, callable_name: str, method: str) -> Handler:
    if not isinstance(target, Handler):
        return class_handler(target, callable_name, method)
    if method != DEFAULT_METHOD:
        raise HandlerMethodNotFoundError(callable_name, method, "it is a function, which has no methods")
    return target


def _own_name(target: _Target) -> str:
    return target.name if isinstance(target, Handler) else class_handler(target).name


def _origin(target: object) -> str:
    if isinstance(target, Handler):
        return f"{target.origin} ({target.place})" if target.place else target.origin
    return f"an instance of {origin_of(target)}" if isinstance(target, StepHandler) else origin_of(target)


def _is_same(one: object, other: object) -> bool:
    """Tell whether two handlers are one piece of code, which was imported under two names of its module."""
    if isinstance(one, Handler) and isinstance(other, Handler):
        return bool(one.place) and one.place == other.place and one.origin != other.origin
    if isinstance(one, type) and isinstance(other, type):
        files = [getattr(sys.modules.get(cls.__module__), "__file__", None) for cls in (one, other)]
        return (
            one.__module__ != other.__module__
            and one.__qualname__ == other.__qualname__
            and (files[0] is not None and files[0] == files[1])
        )
    return False
