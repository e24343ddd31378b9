"""Results as they are stored: encoded once, with texts and notes that PostgreSQL can keep."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tasker.domain.results import StepExecutionResult
from tasker.domain.storable import MAX_PROBLEM_CHARACTERS, encode_json
from tasker.worker.handlers.jsonable import to_jsonable

MAX_MESSAGE_CHARACTERS: Final = 2000
MAX_BACKTRACE_ENTRIES: Final = 25
MAX_BACKTRACE_ENTRY_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class SealedResult:
    """A result and its JSON text, encoded once: what proves that it can be stored is also what is sent."""

    result: StepExecutionResult
    payload: str


def seal(result: StepExecutionResult) -> SealedResult:
    """Encode a result.

    Raises:
        ResultNotStorableError: PostgreSQL cannot store it.
    """
    return SealedResult(result, encode_json(result.to_json()))


def message_of(exc: BaseException) -> str:
    """Return what an exception says, or at least what it is."""
    try:
        message = str(exc)
    except BaseException:  # an exception's own __str__ may be broken
        message = ""
    if isinstance(exc, KeyError):
        message = f"KeyError: {message}"  # the key alone says nothing
    return message or type(exc).__name__


def backtrace_of(exc: BaseException) -> tuple[str, ...]:
    """Return the traceback, causes included, innermost call last; no local variables, which hold secrets."""
    try:
        lines = list(traceback.TracebackException.from_exception(exc, limit=-MAX_BACKTRACE_ENTRIES).format())
    except BaseException:  # __str__ again, of the exception or of one of its causes
        lines = traceback.format_tb(exc.__traceback__, limit=-MAX_BACKTRACE_ENTRIES)
    return tuple(
        storable_text(line, MAX_BACKTRACE_ENTRY_CHARACTERS) for line in lines[-MAX_BACKTRACE_ENTRIES:]
    )


def storable_notes(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return an author's notes on a failure if they can be stored; they must not hide the failure if not."""
    if not notes:
        return {}
    try:
        plain: dict[str, Any] = to_jsonable(dict(notes))
        encode_json(plain)
    except BaseException as exc:  # ResultNotStorableError, or whatever the author's own serializers raise
        return {"left_out": storable_text(message_of(exc), MAX_PROBLEM_CHARACTERS)}
    return plain


def storable_text(text: str, limit: int) -> str:
    """Return text that PostgreSQL can store, cut to a length."""
    clean = text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
