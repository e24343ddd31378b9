"""JSON Schema without a network: checking schemas, and values against them, in bounded time.

Patterns run in an engine whose time is linear in the text, and what a schema may ask of one value is counted before
it is used (`tasker.domain.schema_effort`, `tasker.domain.schema_patterns`): neither a schema nor a value can hold up
the process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, TypeAlias

import jsonschema_rs
from jsonschema_rs import Draft7Validator, Draft202012Validator, RegexOptions, ValidationErrorKind

from tasker.domain.errors import FieldViolation
from tasker.domain.schema_effort import MAX_EFFORT, Nodes, SchemaLoopError, effort_of
from tasker.domain.schema_patterns import (
    MAX_PATTERN_BYTES,
    MAX_PATTERN_WORK,
    MAX_PATTERNS_BYTES,
    PATTERN_OPTIONS,
    compiled_bytes,
    compiles,
    pattern_bytes,
    patterns_of,
)

_Validator: TypeAlias = (
    jsonschema_rs.Draft4Validator
    | jsonschema_rs.Draft6Validator
    | jsonschema_rs.Draft7Validator
    | jsonschema_rs.Draft201909Validator
    | jsonschema_rs.Draft202012Validator
)

#: How many rules are applied to one document at most, its values times what the schema asks of one: 0.1 to 0.2 s.
MAX_CHECKS: Final = 5_000_000
#: Violations of one document that are told; a document of many values that breaks its schema is told only the first.
MAX_VIOLATIONS: Final = 100

_MANY_VALUES: Final = 20_000
_LONGEST_DESCRIPTION: Final = 500
#: How much of a value is told: enough to know it again, and little of what may be nobody's business.
_LONGEST_VALUE: Final = 50
#: Stands for the value in the engine's messages.
_MASK: Final = "\0"
_DRAFT_KEY: Final = "$schema"
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Later drafts define these formats, and nothing speaks against checking them in a schema of an earlier one.
_FORMATS: Final = {
    name: Draft202012Validator({"format": name}, validate_formats=True).is_valid
    for name in ("uuid", "duration")
}


class Schema:
    """A JSON Schema ready for use: draft-07, unless `$schema` names another draft.

    References stay inside the schema: nothing is ever fetched.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    @cached_property
    def _validator(self) -> _Validator:
        return _validator(self.schema)

    @cached_property
    def _effort(self) -> int:
        return effort_of(self.schema)

    @cached_property
    def _pattern_bytes(self) -> int:
        return effort_of(self.schema, pattern_bytes, at_most=MAX_PATTERNS_BYTES)

    def violations(self, value: Any) -> list[FieldViolation]:
        """Return what in a value breaks the schema, ordered by place: everything, or the first of a large value."""
        try:
            count = _count(value, MAX_CHECKS // self._effort)
            if count is None:
                return [FieldViolation("", _too_large(self._effort))]
            if self._pattern_bytes and _characters(value) > MAX_PATTERN_WORK // self._pattern_bytes:
                return [FieldViolation("", _too_long(self._pattern_bytes))]
            if self._validator.is_valid(value):
                return []
            errors = (
                _first(self._validator, value) if count > _MANY_VALUES else self._validator.iter_errors(value)
            )
            found = [FieldViolation(_place(error.instance_path), _description(error)) for error in errors]
        except SchemaLoopError as error:
            return [FieldViolation("", f"the schema {error}")]
        except (
            ValueError
        ) as error:  # the schema was never looked at by `schema_problems`, or the value is no JSON
            return [FieldViolation("", f"cannot be checked against the schema: {_message(error)}")]
        return sorted(found, key=lambda violation: violation.field)[:MAX_VIOLATIONS]

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
    """Return what is wrong with a schema.

    That is: keywords; patterns that no linear engine runs; references that lead nowhere or in circles; alternatives
    that would be tried over and over again at each level of a value.
    """
    nodes = Nodes(schema)
    if problems := list(_reference_problems(nodes)):
        return problems
    if not _patterns_fit(nodes):
        return [f"has patterns of more than {MAX_PATTERNS_BYTES} bytes together when compiled; have fewer"]
    try:
        _validator(schema)
    except jsonschema_rs.ValidationError as error:
        return [f"{_path(error.instance_path)}: {_problem(error)}"]
    except ValueError:
        return ["nested too deeply"]
    try:
        effort = effort_of(schema)
    except SchemaLoopError as error:
        return [str(error)]
    if effort > MAX_EFFORT:
        return [
            f"may try more than {MAX_EFFORT} rules on a single value; let alternatives that lead on (`anyOf`, `oneOf`, "
            "`allOf`) do so under different keys, or move what they have in common beside them"
        ]
    if effort_of(schema, pattern_bytes, at_most=MAX_PATTERNS_BYTES) > MAX_PATTERNS_BYTES:
        return [
            f"may match a single text against patterns of more than {MAX_PATTERNS_BYTES} bytes when compiled; "
            "use fewer and smaller ones"
        ]
    return []


def _validator(schema: Mapping[str, Any]) -> _Validator:
    draft: type[_Validator] = Draft7Validator
    if isinstance(schema.get(_DRAFT_KEY), str):
        draft = jsonschema_rs.validator_cls_for({_DRAFT_KEY: schema[_DRAFT_KEY]})  # type: ignore[assignment]
    return draft(
        dict(schema),
        pattern_options=PATTERN_OPTIONS,
        formats=_FORMATS,
        validate_formats=True,
        offline=True,
        mask=_MASK,
    )


def _first(validator: _Validator, value: Any) -> Iterator[jsonschema_rs.ValidationError]:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        yield error


def _count(value: Any, most: int) -> int | None:
    """Return how many values there are inside a value; None if they are more than `most`."""
    count = 1
    level: list[Any] = [value]
    while level and count <= most:
        containers = [item for item in level if isinstance(item, (Mapping, list, tuple))]
        count += sum(map(len, containers))
        level = [item for container in containers for item in _items(container)]
    return count if count <= most else None


def _characters(value: Any) -> int:
    """Return how many characters the texts and keys inside a value have."""
    count = 0
    level: list[Any] = [value]
    while level:
        count += sum(len(item) for item in level if isinstance(item, str))
        containers = [item for item in level if isinstance(item, (Mapping, list, tuple))]
        count += sum(len(key) for item in containers if isinstance(item, Mapping) for key in item)
        level = [item for container in containers for item in _items(container)]
    return count


def _items(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, Mapping) else container


def _too_large(effort: int) -> str:
    return (
        f"holds more than {MAX_CHECKS // effort} values, too many for a schema that tries up to {effort} rules on "
        "each; keep the data elsewhere and refer to it"
    )


def _too_long(size: int) -> str:
    return (
        f"holds more than {MAX_PATTERN_WORK // size} characters, too many for the patterns of the schema, which have "
        f"{size} bytes when compiled; keep the data elsewhere and refer to it"
    )


def _patterns_fit(nodes: Nodes) -> bool:
    """Return whether the patterns are small enough together; one that is none or too large is found by the engine."""
    total = 0
    for node in nodes.all:
        for pattern in patterns_of(node):
            size = compiled_bytes(pattern)
            if size is None:
                return True
            total += size
            if total > MAX_PATTERNS_BYTES:
                return False
    return True


def _reference_problems(nodes: Nodes) -> Iterator[str]:
    for reference in nodes.references():
        if not reference.startswith("#"):
            yield f"$ref '{reference}' leads outside; move what it means into the schema's definitions"
        elif nodes.target(reference) is None:
            yield f"$ref '{reference}' leads nowhere"
    for path in nodes.identities():
        yield (
            f"{_path(path)}: below the root nothing may have an identity, from which references would count; refer to "
            "definitions by '#/definitions/...'"
        )
    for anchor in nodes.ambiguous_anchors():
        yield f"$anchor '{anchor}' stands twice; give each a name of its own"


def _problem(error: jsonschema_rs.ValidationError) -> str:
    if isinstance(error.kind, ValidationErrorKind.Format) and error.kind.format == "regex":
        pattern = _shown(error.instance, _LONGEST_DESCRIPTION)
        if isinstance(error.instance, str) and compiles(error.instance, RegexOptions()):
            return (
                f"{pattern} has more than {MAX_PATTERN_BYTES} bytes when compiled; write it without large repetitions "
                "(maxLength bounds a text) and with fewer classes of Unicode"
            )
        return (
            f"{pattern} is no regular expression that runs in linear time; write it without look-around, "
            "back-references and repetitions of large repetitions"
        )
    return _shortened(error.message.replace(_MASK, _shown(error.instance, _LONGEST_DESCRIPTION)))


def _message(error: ValueError) -> str:
    return _description(error) if isinstance(error, jsonschema_rs.ValidationError) else _shortened(str(error))


def _description(error: jsonschema_rs.ValidationError) -> str:
    """Return what is wrong; a schema of `false` is none for the engine's own message."""
    message = error.message.replace("False schema does not allow", "the schema does not allow", 1)
    if _MASK in message:
        message = message.replace(_MASK, _shown(error.instance))
    return _shortened(message)


def _shown(value: Any, most: int = _LONGEST_VALUE) -> str:
    """Return the beginning of a value as JSON."""
    if isinstance(value, str):  # no more of it is written than is shown
        value = value[:most]
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _path(parts: Iterable[str | int]) -> str:
    return "$" + "".join(_part(part) for part in parts)


def _place(parts: Iterable[str | int]) -> str:
    return "".join(_part(part) for part in parts).removeprefix(".")


def _part(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if _PLAIN_KEY.fullmatch(part) else f"[{part!r}]"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_DESCRIPTION else f"{text[: _LONGEST_DESCRIPTION - 3]}..."
