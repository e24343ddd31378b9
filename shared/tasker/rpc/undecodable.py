"""What is wrong with bytes that are no message of the type a method takes, as far as that can be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

#: How deep messages may nest: every implementation of protobuf refuses to read more.
DEEPEST_MESSAGE: Final = 100
#: How many fields are looked at before nothing is told: the bytes come from whoever can connect.
_MOST_FIELDS: Final = 20_000
_LONGEST_PATH: Final = 200

_FIXED: Final = {1: 8, 5: 4}
_VARINT: Final = 0
_LENGTH: Final = 2
#: Of the messages that stand for JSON; only the keys of its objects are part of a path.
_JSON: Final = "google.protobuf"


def nested_too_deeply(data: bytes, descriptor: Descriptor) -> str | None:
    """Return the path of what is nested too deeply in the bytes of a message; None if that is not what is wrong."""
    try:
        path = _Walk().path(memoryview(data), descriptor, ())
    except (_GivenUpError, IndexError):  # the latter where the bytes end within a field
        return None
    if path is None:
        return None
    text = ".".join(path)
    return text if len(text) <= _LONGEST_PATH else f"{text[:_LONGEST_PATH]}..."


class _GivenUpError(Exception):
    """There are too many fields to look at."""


class _Walk:
    """One look at the bytes of a message."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def path(
        self, data: memoryview, message: Descriptor, above: tuple[FieldDescriptor, ...]
    ) -> list[str] | None:
        """Return the path to the first message in here that is nested too deeply."""
        if len(above) >= DEEPEST_MESSAGE:
            return []
        key = ""
        for number, value in self._fields(data):
            field = message.fields_by_number.get(number)
            if field is None:
                continue
            if field.message_type is not None:
                behind = self.path(value, field.message_type, (*above, field))
                if behind is not None:
                    return [*([key] if key else _name(field)), *behind]
            elif message.GetOptions().map_entry and field.name == "key":
                key = bytes(value).decode("utf-8", "replace")
        return None

    def _fields(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield number and bytes of the fields that have a length."""
        place = 0
        while place < len(data):
            self._left -= 1
            if self._left < 0:
                raise _GivenUpError
            tag, place = _varint(data, place)
            kind = tag & 7
            if kind == _LENGTH:
                length, place = _varint(data, place)
                yield tag >> 3, data[place : place + length]
                place += length
            elif kind == _VARINT:
                _, place = _varint(data, place)
            elif kind in _FIXED:
                place += _FIXED[kind]
            else:
                raise _GivenUpError


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return a number and the place behind it."""
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7


def _name(field: FieldDescriptor) -> list[str]:
    owner = field.containing_type
    return [] if owner is not None and owner.file.package == _JSON else [field.name]
