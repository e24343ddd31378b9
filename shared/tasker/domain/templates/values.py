"""The values a template may hold: names, versions, ranges.

Each refuses with the code of its finding, and tells editors what it takes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, LiteralString

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from tasker.domain.durations import parse_duration

#: The PGMQ limit of 47 minus the longest suffix we append.
MAX_NAMESPACE_CHARACTERS: Final = 29
_MAX_INT32: Final = 2_147_483_647

_NAME: Final = r"^[a-z][a-z0-9_]*$"
_NAMESPACE: Final = r"^[a-z_][a-z0-9_]*$"
#: What a namespace may not end with: the queues of its bands of priority do.
_RESERVED_ENDINGS: Final = ("_high", "_low")
_VERSION: Final = r"^[0-9]+\.[0-9]+\.[0-9]+$"
_EVENT_NAME: Final = r"^[a-z0-9_]+(\.[a-z0-9_]+)+$"


def refusal(code: LiteralString, problem: str) -> PydanticCustomError:
    """Make a validation error whose type is one of our finding codes."""
    return PydanticCustomError(code, "{problem}", {"problem": problem})


@dataclass(frozen=True, slots=True)
class Between:
    """Limits a number, both ends included."""

    low: int
    high: int

    def check(self, value: int) -> int:
        """Return the value, or refuse it as OUT_OF_RANGE."""
        if not self.low <= value <= self.high:
            raise refusal("OUT_OF_RANGE", f"{value} not in {self.low}..{self.high}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Characters:
    """Limits the length of a text, which must not be empty."""

    high: int

    def check(self, value: str) -> str:
        """Return the value, or refuse it as OUT_OF_RANGE."""
        if not 1 <= len(value) <= self.high:
            raise refusal("OUT_OF_RANGE", f"length {len(value)} not in 1..{self.high}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "minLength": 1, "maxLength": self.high}


def _matches(pattern: str, value: str) -> bool:
    # Python's `$` would let a newline at the end pass.
    return re.fullmatch(pattern.strip("^$"), value, re.ASCII) is not None


def _check_name(value: str) -> str:
    if not _matches(_NAME, value):
        raise refusal("INVALID_NAME", f"'{value}' must match {_NAME}")
    return value


def _check_namespace(value: str) -> str:
    if not _matches(_NAMESPACE, value):
        raise refusal("INVALID_NAME", f"'{value}' must match {_NAMESPACE}")
    if value.endswith(_RESERVED_ENDINGS):
        raise refusal(
            "INVALID_NAME", f"namespace '{value}' must not end in {' or '.join(_RESERVED_ENDINGS)}: queues do"
        )
    if (length := len(value)) > MAX_NAMESPACE_CHARACTERS:
        limit = MAX_NAMESPACE_CHARACTERS
        raise refusal("NAMESPACE_TOO_LONG", f"namespace '{value}' has {length} characters, maximum {limit}")
    return value


def _check_version(value: str) -> str:
    if not _matches(_VERSION, value) or len(value) > 50:
        raise refusal("INVALID_VERSION", f"version '{value}' must be x.y.z")
    return value


def _check_callable(value: str) -> str:
    if not value.strip():
        raise refusal("EMPTY_CALLABLE", "handler.callable is empty; name the handler that runs the step")
    return value


def _check_event_name(value: str) -> str:
    if not _matches(_EVENT_NAME, value):
        raise refusal(
            "INVALID_EVENT", f"event '{value}' must be dotted lower-case words such as order.shipped"
        )
    return value


def _check_duration(value: str) -> str:
    try:
        parse_duration(value)
    except ValueError as error:
        raise refusal("OUT_OF_RANGE", str(error)) from None
    return value


def _text(pattern: str, longest: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "maxLength": longest})


def as_written() -> Any:
    """Let an enum be written as its value, which strict mode would refuse."""
    return Field(strict=False)


Name = Annotated[str, AfterValidator(_check_name), Characters(255), _text(_NAME, 255)]
Namespace = Annotated[
    str,
    AfterValidator(_check_namespace),
    _text(rf"^(?!.*(?:{'|'.join(_RESERVED_ENDINGS)})$){_NAMESPACE[1:]}", MAX_NAMESPACE_CHARACTERS),
]
Version = Annotated[str, AfterValidator(_check_version), _text(_VERSION, 50)]
Callable = Annotated[str, AfterValidator(_check_callable), Characters(500)]
EventName = Annotated[str, AfterValidator(_check_event_name), Characters(255), _text(_EVENT_NAME, 255)]
Duration = Annotated[str, AfterValidator(_check_duration)]
Text255 = Annotated[str, Characters(255)]

Attempts = Annotated[int, Between(1, _MAX_INT32)]
BaseMs = Annotated[int, Between(100, 3_600_000)]
CapMs = Annotated[int, Between(1000, 3_600_000)]
TimeoutSeconds = Annotated[int, Between(1, 3600)]
StateMinutes = Annotated[int, Between(1, 10_080)]

JsonSchema = dict[str, Any]
