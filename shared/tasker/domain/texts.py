"""Which texts of a request can be kept."""

from __future__ import annotations


def text_problem(text: str, longest: int | None = None) -> str | None:
    """Return why a text cannot be kept, or None if it can: too many characters, or a NUL among them."""
    if longest is not None and len(text) > longest:
        return f"has {len(text)} characters, maximum {longest}"
    return "must not hold a NUL character" if "\x00" in text else None
