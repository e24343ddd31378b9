"""When two requests mean the same task: canonical JSON and identity hashes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Final
from uuid import UUID

from tasker.domain.errors import InvalidArgumentError
from tasker.domain.storable import text_problem

#: How long an idempotency key may be.
MAX_IDEMPOTENCY_KEY_CHARACTERS: Final = 255

_LOOKS_INTEGRAL: Final = re.compile(r"\.0(?![0-9])|e\+")
_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


class IdentityStrategy(StrEnum):
    """What makes a task of a template unique."""

    STRICT = "strict"
    CALLER_PROVIDED = "caller_provided"
    ALWAYS_UNIQUE = "always_unique"


def canonical_json(value: object) -> bytes:
    """Return the one way to write a JSON value: keys sorted, no white space, integral floats as integers.

    Raises:
        ValueError: The value holds NaN or an infinity.
        TypeError: The value is not JSON.
    """
    text = _encode(value)
    # An integral float shows as `1.0` or `1e+16`. A string that looks like one costs time, nothing else.
    if (".0" in text or "e+" in text) and _LOOKS_INTEGRAL.search(text):
        text = _encode(_with_integral_floats_as_integers(value))
    return text.encode("ascii")


def _with_integral_floats_as_integers(value: object) -> object:
    if isinstance(value, float):
        # By its digits, as it is read back from the database, not by the binary number nearest to them.
        return int(Decimal(repr(value))) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {key: _with_integral_floats_as_integers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_integral_floats_as_integers(item) for item in value]
    return value


def context_digest(named_task_uuid: UUID, context: Mapping[str, object] | None) -> bytes:
    """Return 32 bytes that are equal for equal contexts of one template version; no context means `{}`.

    Besides being the strict identity it tells whether the replay of an idempotency key repeats the same
    request.
    """
    return sha256(b"ctx" + named_task_uuid.bytes + canonical_json(context or {})).digest()


def identity_hash(
    strategy: IdentityStrategy,
    *,
    task_uuid: UUID,
    named_task_uuid: UUID,
    context: Mapping[str, object] | None,
    idempotency_key: str | None = None,
) -> bytes:
    """Return the 32 bytes that no two tasks share.

    Args:
        strategy: The template's strategy. A key wins over every strategy.
        task_uuid: The uuid of the new task, which makes an `always_unique` identity unique.
        named_task_uuid: The template version: the same context under another version is a new task.
        context: The context as it will be stored, defaults merged.
        idempotency_key: The request's key, if any.

    Raises:
        InvalidArgumentError: The key is not usable, or `caller_provided` came without one.

    """
    if idempotency_key is not None:
        check_idempotency_key(idempotency_key)
        key = idempotency_key.encode("utf-8", "surrogatepass")
        return sha256(b"key" + named_task_uuid.bytes + key).digest()
    if strategy is IdentityStrategy.CALLER_PROVIDED:
        raise InvalidArgumentError.of(
            "idempotency_key", "required: the template's identity_strategy is caller_provided"
        )
    if strategy is IdentityStrategy.ALWAYS_UNIQUE:
        return sha256(b"one" + task_uuid.bytes).digest()
    return context_digest(named_task_uuid, context)


def check_idempotency_key(key: str) -> None:
    """Refuse a key that is blank, longer than 255 characters or not storable.

    Raises:
        InvalidArgumentError: The key is not usable.
    """
    if not key.strip():
        raise InvalidArgumentError.of("idempotency_key", "must not be blank; leave it out to go without")
    if (problem := text_problem(key, MAX_IDEMPOTENCY_KEY_CHARACTERS)) is not None:
        raise InvalidArgumentError.of("idempotency_key", problem)
