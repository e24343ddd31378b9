"""What operators give in words and values, checked before anything is done with it."""

from __future__ import annotations

from collections.abc import Mapping

from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.domain.storable import MAX_RESULT_BYTES, ResultNotStorableError, encode_json, text_problem


def check_texts(
    longest: Mapping[str, int], texts: Mapping[str, str | None], *, required: bool = False
) -> None:
    """Refuse texts that are too long or cannot be stored, and with `required` those that say nothing.

    Args:
        longest: The most characters of each field.
        texts: The texts by field; None where there is none.
        required: Whether each must be there.

    Raises:
        InvalidArgumentError: With everything wrong about them.
    """
    violations = []
    for field, text in texts.items():
        if required and not (text or "").strip():
            violations.append(FieldViolation(field, "required"))
        elif text and (problem := text_problem(text, longest[field])) is not None:
            violations.append(FieldViolation(field, problem))
    if violations:
        raise InvalidArgumentError(violations)


def storable(field: str, value: object, *, most_bytes: int = MAX_RESULT_BYTES) -> str:
    """Return a value as the JSON text that is stored.

    Raises:
        InvalidArgumentError: It cannot be stored, or takes more than `most_bytes`.
    """
    try:
        text = encode_json(value)
    except ResultNotStorableError as error:
        raise InvalidArgumentError.of(field, str(error)) from error
    if (size := len(text.encode())) > most_bytes:
        problem = f"takes {size} bytes as JSON, maximum {most_bytes}; keep the data elsewhere and refer to it"
        raise InvalidArgumentError.of(field, problem)
    return text
