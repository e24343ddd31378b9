"""Where each argument of a handler function comes from, and fetching it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tasker.domain.errors import FieldViolation
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.errors import refusal
from tasker.worker.handlers.markers import Source


class WhenMissing(Enum):
    """What to do if the value is not there."""

    REFUSE = "refuse"
    GIVE_NONE = "give None"
    USE_DEFAULT = "use the parameter's own default"


@dataclass(frozen=True, slots=True)
class Given:
    """An argument that a parameter is given for its type, or for its name where it has no type.

    Attributes:
        source: What messages call it.
        kind: The type.
        names: The names.
        find: Returns it, or None if the step has none.
    """

    source: Source
    kind: type
    names: tuple[str, ...]
    find: Callable[[StepContext], object]


@dataclass(frozen=True, slots=True)
class Injection:
    """How one parameter gets its argument.

    Attributes:
        parameter: Name of the parameter.
        source: Where the value comes from.
        key: Step name, or key of the inputs or the configuration; None means the whole of them.
        when_missing: What happens without a value.
        adapter: Validates and converts the value; None passes it as it is.
        find: Returns what the parameter is given; None for those that look something up.
    """

    parameter: str
    source: Source
    key: str | None = None
    when_missing: WhenMissing = WhenMissing.REFUSE
    adapter: TypeAdapter[Any] | None = None
    find: Callable[[StepContext], object] | None = None

    @property
    def field(self) -> str:
        """The value's path in messages, such as `dependencies.price_cart`."""
        return str(self.source) if self.key is None else f"{self.source}.{self.key}"

    def look_up(self, context: StepContext) -> tuple[bool, Any]:
        """Return whether there is a value, and the value."""
        if self.find is not None:
            given = self.find(context)
            return given is not None, given
        place: Mapping[str, Any]
        match self.source:
            case Source.DEPENDENCY:
                place = context.dependency_results
            case Source.INPUT:
                place = context.input_data
            case _:
                place = context.step_config
        if self.key is None:
            return True, dict(place)  # a copy of the outer level, and what pydantic takes for a model
        return self.key in place, place.get(self.key)

    def validate(self, value: Any) -> Any:
        """Return a value as the parameter's type.

        Raises:
            ValidationError: It does not fit.
        """
        if self.adapter is None:
            return value
        if self.source is not Source.DEPENDENCY:
            return _read(self.adapter, value)
        try:
            return _read_result(self.adapter, value)
        except ValidationError:
            # What a step returned as `7` was stored as `{"result": 7}`: a parameter typed `int` means the 7.
            if _is_wrapped(value):
                with suppress(ValidationError):
                    return _read_result(self.adapter, value["result"])
            raise


@dataclass(frozen=True, slots=True)
class InjectionPlan:
    """All injections of one handler function."""

    handler_name: str
    injections: tuple[Injection, ...]

    @property
    def dependencies(self) -> tuple[str, ...]:
        """Names of the steps whose results the handler reads."""
        return tuple(i.key for i in self.injections if i.source is Source.DEPENDENCY and i.key is not None)

    def bind(self, context: StepContext) -> dict[str, Any]:
        """Return the keyword arguments for one call.

        Raises:
            StepValidationError: Something required is missing or does not fit its type; names every field.
        """
        arguments: dict[str, Any] = {}
        violations: list[FieldViolation] = []
        for injection in self.injections:
            present, value = injection.look_up(context)
            if present:
                try:
                    arguments[injection.parameter] = injection.validate(value)
                except ValidationError as exc:
                    violations.extend(violations_of(injection, exc))
            elif injection.when_missing is WhenMissing.GIVE_NONE:
                arguments[injection.parameter] = None
            elif injection.when_missing is WhenMissing.REFUSE:
                violations.append(FieldViolation(injection.field, "is missing"))
        if violations:
            raise refusal(self.handler_name, violations)
        return arguments


def violations_of(injection: Injection, exc: ValidationError) -> Iterator[FieldViolation]:
    """Return what does not fit, by its path; without the input, as messages are stored and shown."""
    for error in exc.errors(include_url=False, include_context=False, include_input=False):
        path = ".".join([injection.field, *map(str, error["loc"])])
        yield FieldViolation(path, error["msg"])


def _read(adapter: TypeAdapter[Any], value: Any, *, by_name: bool | None = None) -> Any:
    with suppress(ValidationError):
        return adapter.validate_python(value, by_alias=by_name, by_name=by_name)
    # The values came as JSON: in that mode a strict model, too, reads a date or a UUID from a string.
    return adapter.validate_json(_json(value), by_alias=by_name, by_name=by_name)


def _read_result(adapter: TypeAdapter[Any], value: Any) -> Any:
    """Return what a step returned, as a type: a model was dumped by field names, and with its computed fields."""
    try:
        return _read(adapter, value, by_name=True)
    except ValidationError as exc:
        # One that forbids extras refuses its own computed fields.
        own = _without_computed(value, exc, frozenset(_computed_fields(adapter.core_schema)))
        if own is None:
            raise
        return _read(adapter, own, by_name=True)


def _without_computed(value: Any, exc: ValidationError, computed: Collection[str]) -> Any:
    """Return a copy of a value without the computed fields that were refused as extras; None if there are none."""
    places = [
        error["loc"]
        for error in exc.errors()
        if error["type"] == "extra_forbidden" and error["loc"][-1] in computed
    ]
    if not places:
        return None
    copied = deepcopy(value)
    for *above, name in places:
        found = copied
        for key in above:
            if (isinstance(found, dict) and key in found) or (
                isinstance(found, list) and isinstance(key, int)
            ):
                found = found[key]  # type: ignore[index]
            # else the place names a member of a union, which is no place in the value
        if isinstance(found, dict):
            found.pop(name, None)
    return copied


def _computed_fields(schema: object) -> Iterator[str]:
    """Yield the names of all computed fields of the models and dataclasses that a type is made of."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "computed-field":
            yield schema["property_name"]
        for part in schema.values():
            yield from _computed_fields(part)
    elif isinstance(schema, (list, tuple)):
        for part in schema:
            yield from _computed_fields(part)


def _json(value: Any) -> str:
    return json.dumps(value, default=str)  # a test may pass a context with richer values than JSON has


def _is_wrapped(value: Any) -> bool:
    return isinstance(value, Mapping) and list(value) == ["result"]
