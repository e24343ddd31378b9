"""The handlers and resolvers in a module."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import TypeGuard

from tasker.worker.handlers.classes import StepHandler
from tasker.worker.handlers.definitions import definitions_of
from tasker.worker.handlers.functions import is_marked
from tasker.worker.handlers.resolvers import RegistryResolver

#: How deep in lists and dicts of a module handlers are looked for: a table of them by name, say.
_CONTAINERS_DEEP = 3


def instances_in(module: object) -> Iterator[StepHandler]:
    """Yield the instances of handler classes that templates can name."""
    for value in _reachable(_names_of(module)) if isinstance(module, ModuleType) else ():
        if _is_named(value):
            yield value


def _is_named(value: object) -> TypeGuard[StepHandler]:
    return isinstance(value, StepHandler) and bool(value.handler_name)


def contents_in(module: ModuleType) -> Iterator[object]:
    """Yield the module's handlers and resolvers in the order of their definition, those without a name of it last."""
    found = list(_reachable(_names_of(module)))
    yield from filter(_is_handler, found)
    known = set(map(id, found))
    # A decorator such as `@dataclass(slots=True)` makes a class anew: the one before it is nobody's.
    remade = {(one.__qualname__, one.__dict__.get("handler_name")) for one in found if isinstance(one, type)}
    for one in definitions_of(module):
        is_remade = isinstance(one, type) and (one.__qualname__, one.__dict__.get("handler_name")) in remade
        if id(one) not in known and not is_remade and _is_handler(one):
            yield one


def _is_handler(value: object) -> bool:
    if isinstance(value, type):
        # An inherited name belongs to the parent; a class without one is meant to be derived from.
        named = (issubclass(value, StepHandler) and value.__dict__.get("handler_name")) or (
            issubclass(value, RegistryResolver) and value.__dict__.get("name")
        )
        return bool(named) and not inspect.isabstract(value)
    return is_marked(value) or _is_named(value)


def _names_of(module: ModuleType) -> Mapping[str, object]:
    return {name: value for name, value in vars(module).items() if name != "__builtins__"}


def _reachable(container: Iterable[object], depth: int = 0) -> Iterator[object]:
    """Yield what names, lists and dicts of a module hold."""
    if depth > _CONTAINERS_DEEP:
        return
    for value in list(container.values() if isinstance(container, Mapping) else container):
        if type(value) in (list, tuple, set, frozenset, dict):
            yield from _reachable(value, depth + 1)
        else:
            yield value
