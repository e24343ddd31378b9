"""From fields of messages to values."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp


def optional(message: Message, field: str) -> Any:
    """Return a field; None where it is absent."""
    return getattr(message, field) if message.HasField(field) else None


def json_text(message: Message, field: str) -> Any:
    """Return what the JSON text in a field says; None where it is absent."""
    return json.loads(getattr(message, field)) if message.HasField(field) else None


def json_value(message: Message, field: str) -> Any:
    """Return a JSON object from its exact text, or from the Struct beside it where a server sends no text."""
    exact = f"{field}_json"
    if message.HasField(exact):
        return json.loads(getattr(message, exact))
    return plain(getattr(message, field)) if message.HasField(field) else None


def plain(message: Struct) -> Any:
    """Return a Struct as JSON; integral doubles become integers."""
    # Imported here: a service that sends the exact text leaves nothing to convert, and this costs more than the rest.
    from google.protobuf import json_format

    from tasker.domain.context import with_exact_integers

    return with_exact_integers(json_format.MessageToDict(message))


def instant(message: Timestamp) -> datetime:
    """Return an instant."""
    return message.ToDatetime(UTC)


def optional_instant(message: Message, field: str) -> datetime | None:
    """Return the instant in a field; None where it is absent."""
    return instant(getattr(message, field)) if message.HasField(field) else None


def optional_time(message: Message, field: str) -> datetime | None:
    """Return the instant that a text field names; None where it is absent."""
    return datetime.fromisoformat(getattr(message, field)) if message.HasField(field) else None
