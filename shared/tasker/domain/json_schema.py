"""JSON Schema without a network: checking schemas, and values against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from jsonschema import Draft7Validator
from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT7

from tasker.domain.errors import FieldViolation

#: Keywords whose values are data, where `$ref` is no reference.
_DATA_KEYWORDS: Final = frozenset({"const", "enum", "default", "examples"})


class Schema:
    """A JSON Schema ready for use: draft-07, unless `$schema` names another draft.

    References stay inside the schema: nothing is ever fetched.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    @cached_property
    def _validator(self) -> Validator:
        return _draft_of(self.schema)(self.schema, registry=Registry())

    def violations(self, value: Any) -> list[FieldViolation]:
        """Return everything in a value that breaks the schema, ordered by place."""
        try:
            errors = sorted(self._validator.iter_errors(value), key=lambda error: error.json_path)
        except Unresolvable as error:
            return [FieldViolation("", f"the schema refers to '{error.ref}', which it does not contain")]
        except RecursionError:
            return [FieldViolation("", "the schema refers to itself without end")]
        return [
            FieldViolation(error.json_path.removeprefix("$").removeprefix("."), error.message)
            for error in errors
        ]

    def with_defaults(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of an object with the defaults of its absent properties, one level deep."""
        properties = self.schema.get("properties")
        declared = properties if isinstance(properties, dict) else {}
        defaults = {
            key: rule["default"]
            for key, rule in declared.items()
            if key not in value and isinstance(rule, dict) and "default" in rule
        }
        return {**value, **defaults}


def schema_problems(schema: dict[str, Any]) -> list[str]:
    """Return what is wrong with a schema: keywords, regular expressions, references that lead nowhere."""
    try:
        _draft_of(schema).check_schema(schema)
    except SchemaError as error:
        return [f"{error.json_path}: {error.message}"]
    except RecursionError:
        return ["nested too deeply"]
    registry: Registry[Any] = Registry().with_resource("", DRAFT7.create_resource(schema))
    resolver = registry.resolver()
    problems = []
    for reference in _references(schema):
        if not reference.startswith("#"):
            problems.append(
                f"$ref '{reference}' leads outside; move what it means into the schema's definitions"
            )
            continue
        try:
            resolver.lookup(reference)
        except Unresolvable:
            problems.append(f"$ref '{reference}' leads nowhere")
    return problems


def _draft_of(schema: Mapping[str, Any]) -> type[Validator]:
    draft: type[Validator] = validator_for(schema, default=Draft7Validator)
    return draft


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            elif key not in _DATA_KEYWORDS:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)
