"""Which values PostgreSQL can keep as jsonb, and their text; and which texts it can keep."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

from tasker.domain.errors import TaskerError

#: The largest result, as UTF-8 JSON text.
MAX_RESULT_BYTES: Final = 1024 * 1024
#: The longest text of a problem.
MAX_PROBLEM_CHARACTERS: Final = 500

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
#: Longer numbers are not read as such by Python.
_MAX_DIGITS: Final = 4300
_TOO_LARGE: Final = 10**_MAX_DIGITS
_NUL: Final = "\\u0000"
_EXPONENT: Final = re.compile(r"[0-9]e[+-]([0-9]{1,4})")
_NAME_OF: Final = {math.inf: "infinity", -math.inf: "-infinity"}


class ResultNotStorableError(TaskerError):
    """A value cannot be stored as jsonb; `problem` says where and why."""

    reason: ClassVar[str] = "RESULT_NOT_STORABLE"

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


#: How much longer a number may be when it is written without its exponent, at most.
_MOST_WRITTEN_OUT: Final = 64


def encode_json(value: object) -> str:
    """Return compact JSON text that PostgreSQL stores as jsonb unchanged.

    Raises:
        ResultNotStorableError: The value holds a NUL character, a lone surrogate, NaN or an infinity,
            something that is no JSON, refers to itself, is nested too deeply, or is larger than 1 MiB as PostgreSQL
            writes it, which is without exponents.

    Costs one `json.dumps` unless something is wrong.
    """
    try:
        text = _encode(value)
        size = len(text) if text.isascii() else len(text.encode("utf-8"))
        # Numbers with exponents, which PostgreSQL writes out: 1e308 takes as much as 62 times its text.
        if size * _MOST_WRITTEN_OUT > MAX_RESULT_BYTES and ("e+" in text or "e-" in text):
            size += sum(int(exponent) for exponent in _EXPONENT.findall(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ResultNotStorableError(_problem_of(value, error)) from error
    if size > MAX_RESULT_BYTES:
        remedy = "keep the data elsewhere and refer to it"
        raise ResultNotStorableError(f"takes {size} bytes as JSON, maximum {MAX_RESULT_BYTES}; {remedy}")
    # The text of a NUL is also that of an escaped backslash followed by "u0000": only a second look can tell.
    if _NUL in text and (problem := _first_problem(value)) is not None:
        raise ResultNotStorableError(problem)
    return text


def json_array(texts: Iterable[str]) -> str:
    """Return the JSON text of an array whose members are JSON texts already."""
    return f"[{','.join(texts)}]"


def kind_of(value: object) -> str:
    """Return how JSON calls a value, with its article."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a boolean"
    kinds = ((str, "a text"), ((int, float), "a number"), (Mapping, "an object"), ((list, tuple), "an array"))
    return next((name for types, name in kinds if isinstance(value, types)), "no JSON")


def serialization_problem(value: object) -> str | None:
    """Return why a value cannot be stored as jsonb, or None if it can."""
    try:
        encode_json(value)
    except ResultNotStorableError as error:
        return error.problem
    return None


def text_problem(text: str, longest: int | None = None) -> str | None:
    """Return why a text of a request cannot be kept, or None if it can: too many characters, or a NUL among them."""
    if longest is not None and len(text) > longest:
        return f"has {len(text)} characters, maximum {longest}"
    return "must not hold a NUL character" if "\x00" in text else None


def _problem_of(value: object, error: Exception) -> str:
    """Say what made the encoder fail."""
    if isinstance(error, RecursionError):
        return "is nested too deeply to be written as JSON"
    if "Circular" in str(error):
        return "contains itself"
    return _first_problem(value) or _shortened(f"cannot be written as JSON: {error}")


def _first_problem(value: object) -> str | None:
    """Return place and reason of the first thing that cannot be stored. Slow: for when something is wrong."""
    for place, item in _walk(value):
        if (problem := _problem_with(item)) is not None:
            return _shortened(f"{place or 'the value'} {problem}")
    return None


def _walk(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Yield everything inside a value, keys included, with its place (`items[2].sku`)."""
    yield place, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"a key of {place or 'the value'}", key
            yield from _walk(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(item, f"{place}[{index}]")


def _problem_with(item: object) -> str | None:
    if isinstance(item, str):
        if "\x00" in item:
            return "holds a NUL character, which PostgreSQL cannot store"
        if not item.isascii() and any("\ud800" <= character <= "\udfff" for character in item):
            return "holds half of a surrogate pair, which is no character"
        return None
    if isinstance(item, float):
        return None if math.isfinite(item) else f"is {_NAME_OF.get(item, 'NaN')}, which JSON cannot express"
    if isinstance(item, int) and not isinstance(item, bool) and abs(item) >= _TOO_LARGE:
        return f"is a number of more than {_MAX_DIGITS} digits"
    if item is None or isinstance(item, (dict, list, tuple, int)):
        return None
    return f"is of type {type(item).__name__}, which is no JSON"


def _shortened(problem: str) -> str:
    # A place is made of keys, which may hold the very characters that cannot be stored.
    printable = problem.replace("\x00", "?").encode("utf-8", "replace").decode("utf-8")
    limit = MAX_PROBLEM_CHARACTERS
    return printable if len(printable) <= limit else f"{printable[: limit - 3]}..."
