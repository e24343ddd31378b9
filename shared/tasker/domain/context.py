"""What a task may be started with: merging defaults, limits, the input schema."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.domain.json_schema import Schema
from tasker.domain.storable import ResultNotStorableError, encode_json, kind_of

MAX_CONTEXT_DEPTH: Final = 10
MAX_CONTEXT_ITEMS: Final = 1000
MAX_CONTEXT_STRING: Final = 10_000

_EXACT_DOUBLES: Final = 2**53
_GREATEST_DOUBLE: Final = int(sys.float_info.max)


class InputValidation(StrEnum):
    """What becomes of a context that breaks the input schema; its defaults are filled in whatever this says."""

    ENFORCE = "enforce"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class PreparedContext:
    """A context as it will be stored.

    Attributes:
        context: The request's keys over the template's defaults.
        text: The same as JSON text.
        warnings: How it breaks the input schema, where that is tolerated.
    """

    context: dict[str, Any]
    text: str
    warnings: tuple[FieldViolation, ...] = ()


class ContextRules:
    """The rules a template version has for the contexts of its tasks; make one per template and keep it."""

    def __init__(
        self,
        *,
        default_context: Mapping[str, Any] | None = None,
        input_schema: Mapping[str, Any] | None = None,
        validation: InputValidation = InputValidation.ENFORCE,
    ) -> None:
        self._defaults = dict(default_context or {})
        self._schema = Schema(input_schema) if input_schema else None
        self._validation = validation

    def prepare(self, context: object) -> PreparedContext:
        """Return the context to store.

        Args:
            context: What the request holds; None means `{}`.

        Raises:
            InvalidArgumentError: With everything that is wrong: not an object, beyond a limit or not storable; if it
                is none of these, against the schema.

        The template's `default_context` goes under the request's keys, then the schema's defaults one level
        deep, then the schema is applied.
        """
        if context is None:
            context = {}
        if not isinstance(context, Mapping):
            raise InvalidArgumentError.of("context", f"must be an object, got {kind_of(context)}")
        merged: dict[str, Any] = {**self._defaults, **context}
        if self._schema is not None:
            merged = self._schema.with_defaults(merged)
        problems = limit_violations(merged)
        try:
            text = encode_json(merged)
        except ResultNotStorableError as error:
            raise InvalidArgumentError((*problems, FieldViolation("context", error.problem))) from error
        if problems:  # a value beyond the limits is none to try a schema on
            raise InvalidArgumentError(problems)
        broken = self._schema_violations(merged)
        if broken and self._validation is InputValidation.ENFORCE:
            raise InvalidArgumentError(broken)
        return PreparedContext(merged, text, tuple(broken))

    def _schema_violations(self, context: Mapping[str, Any]) -> list[FieldViolation]:
        if self._schema is None or self._validation is InputValidation.OFF:
            return []
        return [_within_context(violation) for violation in self._schema.violations(context)]


def limit_violations(context: Mapping[str, Any]) -> list[FieldViolation]:
    """Return where a context exceeds a limit: one violation for depth, one for items, for strings, for numbers.

    At most 10 levels, 1000 keys or items per level, 10,000 characters per string, and no integer that a double cannot
    come near. The size of the whole is seen when it is written.
    """
    found: dict[str, FieldViolation] = {}
    level: list[tuple[str, Any]] = [("context", context)]
    depth = 1
    while level:
        inner: list[tuple[str, Any]] = []
        for place, container in level:
            if len(container) > MAX_CONTEXT_ITEMS:
                problem = f"has {len(container)} keys or items, maximum {MAX_CONTEXT_ITEMS}"
                found.setdefault("items", FieldViolation(place, problem))
            is_object = isinstance(container, Mapping)
            for key, item in container.items() if is_object else enumerate(container):
                if isinstance(item, str):
                    if len(item) > MAX_CONTEXT_STRING:
                        problem = f"has {len(item)} characters, maximum {MAX_CONTEXT_STRING}"
                        found.setdefault("string", FieldViolation(_place(place, key, is_object), problem))
                elif isinstance(item, int) and not -_GREATEST_DOUBLE <= item <= _GREATEST_DOUBLE:
                    problem = "is an integer beyond 1.8e308, which few can read; send it as text"
                    found.setdefault("number", FieldViolation(_place(place, key, is_object), problem))
                elif isinstance(item, (dict, list, tuple)):
                    inner.append((_place(place, key, is_object), item))
        depth += 1
        if depth > MAX_CONTEXT_DEPTH and inner:
            found["depth"] = FieldViolation(inner[0][0], f"is nested deeper than {MAX_CONTEXT_DEPTH} levels")
            break
        level = inner
    return list(found.values())


def with_exact_integers(value: Any) -> Any:
    """Return a JSON value with its integral doubles within +-2^53 as integers; others stay.

    A protobuf Struct knows only doubles: without this equal contexts sent as JSON and as Struct would be
    two identities, and handlers would see 1.0 for 1.
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() and -_EXACT_DOUBLES <= value <= _EXACT_DOUBLES else value
    if isinstance(value, dict):
        return {key: with_exact_integers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_exact_integers(item) for item in value]
    return value


def _place(place: str, key: object, is_object: bool) -> str:
    return f"{place}.{key}" if is_object else f"{place}[{key}]"


def _within_context(violation: FieldViolation) -> FieldViolation:
    where = violation.field
    separator = "" if not where or where.startswith("[") else "."
    return FieldViolation(f"context{separator}{where}", violation.description)
