"""How much the patterns of a JSON Schema may cost: their compiled sizes, times the characters they read.

The engine is linear in the text, but for each character it may touch every state of a pattern, and `[01]{1000}` has a
thousand of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
from jsonschema_rs import Draft7Validator, RegexOptions

#: How large a pattern may be when compiled, and all of a schema together.
MAX_PATTERN_BYTES: Final = 64 * 1024
MAX_PATTERNS_BYTES: Final = 1024 * 1024
#: Bytes of the patterns that meet at one text times the characters of a document; a third of a nanosecond each.
MAX_PATTERN_WORK: Final = 2_000_000_000

PATTERN_OPTIONS: Final = RegexOptions(size_limit=MAX_PATTERN_BYTES, dfa_size_limit=1024 * 1024)

_STEP_BYTES: Final = 256


def patterns_of(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the patterns right in a subschema."""
    if isinstance(pattern := node.get("pattern"), str):
        yield pattern
    if isinstance(by_name := node.get("patternProperties"), Mapping):
        yield from by_name


def pattern_bytes(node: Mapping[str, Any]) -> int:
    """Return how large the patterns right in a subschema are; those of keys may be asked twice."""
    own = node.get("pattern")
    return sum(
        (1 if pattern is own else 2) * (compiled_bytes(pattern) or MAX_PATTERN_BYTES)
        for pattern in patterns_of(node)
    )


@lru_cache(maxsize=1000)
def compiled_bytes(pattern: str) -> int | None:
    """Return how large a pattern is when compiled, rounded up; None if it is larger than allowed, or no pattern."""
    too_few, enough = 0, MAX_PATTERN_BYTES // _STEP_BYTES
    if not compiles(pattern, PATTERN_OPTIONS):
        return None
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if compiles(pattern, RegexOptions(size_limit=middle * _STEP_BYTES)):
            enough = middle
        else:
            too_few = middle
    return enough * _STEP_BYTES


def compiles(pattern: str, options: RegexOptions) -> bool:
    """Return whether a pattern is one to the linear engine, within some options."""
    try:
        Draft7Validator({"pattern": pattern}, pattern_options=options)
    except jsonschema_rs.ValidationError:
        return False
    return True
