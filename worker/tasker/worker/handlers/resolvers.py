"""The ways from a name in a template to what answers to it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

from tasker.domain.templates.offers import DEFAULT_METHOD
from tasker.worker.handlers import importing
from tasker.worker.handlers.errors import HandlerNotFoundError

EXPLICIT_MAPPING: Final = "explicit_mapping"
CLASS_LOOKUP: Final = "class_lookup"


@dataclass(frozen=True, slots=True)
class HandlerDefinition:
    """What a template's `handler` says about where to find it.

    Attributes:
        callable: The name.
        method: The method to run.
        resolver: The only resolver to ask; None asks all of them in the order of their priority.
    """

    callable: str
    method: str = DEFAULT_METHOD
    resolver: str | None = None


class RegistryResolver(ABC):
    """A way of finding handlers that you define: derive from it, and put the class into a handler module.

    Names that match `pattern` or begin with `prefix` are brought to it, every name if it has neither. A
    template whose `handler.resolver` names it asks it alone, whatever its pattern. It is asked once for each
    definition and worker, and its answer is kept.

    Attributes:
        name: What templates call it in `handler.resolver`.
        priority: Lower is asked earlier; the names of registered handlers have 10, dotted paths 100.
        pattern: A regular expression that the name must match from its beginning.
        prefix: What the name must begin with.
    """

    name: ClassVar[str] = ""
    priority: ClassVar[int] = 50
    pattern: ClassVar[str | None] = None
    prefix: ClassVar[str | None] = None

    def can_resolve(self, definition: HandlerDefinition) -> bool:
        """Return whether the name is one of its own."""
        if self.pattern is not None and re.match(self.pattern, definition.callable):
            return True
        if self.prefix is not None and definition.callable.startswith(self.prefix):
            return True
        return self.pattern is None and self.prefix is None

    @abstractmethod
    def resolve_handler(self, definition: HandlerDefinition) -> object | None:
        """Return a decorated function, a `StepHandler` class or an instance of one; None asks the next."""


class ExplicitMapping(RegistryResolver):
    """Finds what was registered under the name."""

    name = EXPLICIT_MAPPING
    priority = 10

    def __init__(self) -> None:
        self.targets: dict[str, object] = {}

    def resolve_handler(self, definition: HandlerDefinition) -> object | None:
        """Return the registered handler."""
        return self.targets.get(definition.callable)


class ClassLookup(RegistryResolver):
    """Finds what a dotted path leads to: a class, an instance or a decorated function."""

    name = CLASS_LOOKUP
    priority = 100

    def resolve_handler(self, definition: HandlerDefinition) -> object | None:
        """Import the module and return the attribute.

        Raises:
            HandlerNotFoundError: There is no such module or attribute.
            HandlerImportError: The module exists and breaks, which is no answer to "is it there".
        """
        path = definition.callable
        module_name, _, attribute = path.rpartition(".")
        if not module_name or not all(part.isidentifier() for part in path.split(".")):
            return None
        try:
            module = importing.import_module(module_name)
        except ModuleNotFoundError:
            raise HandlerNotFoundError(path, why=f"there is no module {module_name!r}") from None
        found: object | None = getattr(module, attribute, None)
        if found is None:
            raise HandlerNotFoundError(path, why=f"{module_name!r} has no {attribute!r}")
        return found
