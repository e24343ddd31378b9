"""JSON that requests bring, as Struct or as text; what is wrong with it is told by its path."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct, Value

from tasker.domain.errors import InvalidArgumentError

_EXACT_DOUBLES: Final = 2**53
#: The longest integer that is read; a longer one would take seconds.
_MOST_DIGITS: Final = 4000


def struct(message: Struct, field: str) -> dict[str, Any]:
    """Return a Struct as JSON; integral doubles within ±2^53 become integers, a value without kind null.

    Raises:
        InvalidArgumentError: It holds NaN or an infinity.
    """
    try:
        return {key: _plain(value) for key, value in message.fields.items()}
    except _NotFiniteError:
        root = Value(struct_value=message)
        place, number = next((place, n) for place, n in _numbers(root, field) if not math.isfinite(n))
        what = "NaN" if math.isnan(number) else "infinite"
        raise InvalidArgumentError.of(
            place, f"is {what}, which JSON cannot express; send a number, a text or null"
        ) from None


def text(value: str, field: str) -> Any:
    """Return what JSON text says.

    Raises:
        InvalidArgumentError: It is no JSON, or has an integer of thousands of digits.
    """
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise InvalidArgumentError.of(field, f"is not JSON: {error}") from None
    except RecursionError:
        raise InvalidArgumentError.of(field, "is nested too deeply to be read") from None
    except ValueError:  # an integer that is too long to be converted
        place, digits = next(_long_integers(json.loads(value, parse_int=_LongInteger), field))
        raise InvalidArgumentError.of(
            place, f"is an integer of {digits} digits, maximum {_MOST_DIGITS}; send it as text"
        ) from None


class _NotFiniteError(Exception):
    """A number is none."""


class _LongInteger(str):
    """The digits of an integer."""

    __slots__ = ()


def _plain(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        if number.is_integer() and -_EXACT_DOUBLES <= number <= _EXACT_DOUBLES:
            return int(number)
        if not math.isfinite(number):
            raise _NotFiniteError
        return number
    if kind == "struct_value":
        return {key: _plain(item) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    return value.bool_value if kind == "bool_value" else None


def _numbers(value: Value, place: str) -> Iterator[tuple[str, float]]:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        yield place, value.number_value
    elif kind == "struct_value":
        for key, item in value.struct_value.fields.items():
            yield from _numbers(item, f"{place}.{key}")
    elif kind == "list_value":
        for index, item in enumerate(value.list_value.values):
            yield from _numbers(item, f"{place}[{index}]")


def _long_integers(value: Any, place: str) -> Iterator[tuple[str, int]]:
    if isinstance(value, _LongInteger):
        if len(value) > _MOST_DIGITS:
            yield place, len(value.lstrip("-"))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _long_integers(item, f"{place}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _long_integers(item, f"{place}[{index}]")
