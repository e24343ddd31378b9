"""UUIDv7: identifiers that sort by the time they were made (RFC 9562 section 5.7)."""

from __future__ import annotations

import os
import re
from random import Random
from threading import Lock
from time import time_ns
from typing import Final
from uuid import UUID, SafeUUID

from tasker.domain.errors import InvalidArgumentError

_VERSION_AND_VARIANT: Final = (0x7 << 76) | (0b10 << 62)
_LOW_62: Final = (1 << 62) - 1
_TAIL_LIMIT: Final = 1 << 74
_CANONICAL: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class _State:
    """The last uuid made: its millisecond, and the 74 bits behind it as a number."""

    def __init__(self) -> None:
        # A generator of our own: seeding the global one (as tests do) must not make two processes agree.
        self.bits = Random().getrandbits  # noqa: S311 - identifiers, not secrets
        self.lock = Lock()
        self.milliseconds = 0
        self.tail = 0


_state = _State()


def _forget() -> None:
    """Start anew in a forked child, which would otherwise repeat its parent's uuids."""
    global _state
    _state = _State()


if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_forget)


def uuid7() -> UUID:
    """Return a new UUIDv7, greater than every one this process made before, whatever the clock does.

    Within a millisecond (or while the clock is behind) the random part grows by a random step instead of
    being drawn anew; should it overflow, the next millisecond is borrowed.
    """
    state = _state
    with state.lock:
        now = time_ns() // 1_000_000
        if now > state.milliseconds:
            state.milliseconds = now
            state.tail = tail = state.bits(73)
        else:
            state.tail = tail = state.tail + 1 + state.bits(32)
            if tail >= _TAIL_LIMIT:
                state.milliseconds += 1
                state.tail = tail = state.bits(73)
        milliseconds = state.milliseconds
    value = (milliseconds << 80) | (tail >> 62 << 64) | (tail & _LOW_62) | _VERSION_AND_VARIANT
    # UUID(int=...) checks what is true here by construction; leaving that out halves the cost.
    made = object.__new__(UUID)
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


def parse_uuid(text: str, field: str) -> UUID:
    """Return the uuid written in `text`, in the canonical form with hyphens, in either case.

    Args:
        text: What the caller sent.
        field: The name of the request field, for the error.

    Raises:
        InvalidArgumentError: `text` is anything else.
    """
    if _CANONICAL.fullmatch(text) is None:
        shown = text if len(text) <= 50 else f"{text[:50]}..."
        raise InvalidArgumentError.of(
            field, f"'{shown}' is not a uuid such as 0197b7f2-7c1e-7d3a-9c55-3f0f6d1a2b4c"
        )
    return UUID(text)
