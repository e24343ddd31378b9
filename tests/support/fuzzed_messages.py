"""Requests that nobody would send: bytes at random, and messages of the right shape with any values."""

from __future__ import annotations

import json
import random
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

#: What a server takes.
MOST_BYTES: Final = 4 * 1024 * 1024
#: Of messages within messages; what is deeper is made as bytes.
_DEPTH: Final = 5

_NUMBERS: Final = (0, 1, -1, 2, 7, 100, 101, 1000, 1001, 4096, 2**15, 2**31 - 1, -(2**31))
_LONG_NUMBERS: Final = (*_NUMBERS, 2**32, 2**53 + 1, 2**63 - 1, -(2**63))
_FLOATS: Final = (
    0.0,
    -0.0,
    1.0,
    0.5,
    -1e308,
    1e308,
    5e-324,
    2.0**53,
    float("nan"),
    float("inf"),
    -float("inf"),
)
_TEXTS: Final = (
    "", " ", "a", "0", "-1", "1.0.0", "99.0.0", "\0", "\x7f", "\r\n", "é", "\U0001d54f", "\u202e", "%s%n",
    "{}", "null", "*",
    "../../../etc/passwd", "'; DROP TABLE tasker.tasks; --", "$1", "name", "created_at", "Bearer x", "1e400",
    '{"a": 1}', "{", "[1, 2]", "NaN", '{"a": NaN}', '{"a": 1, "a": 2}', '"\\ud800"', '{"\\u0000": 1}', "9" * 400,
    '{"n": ' + "9" * 400 + "}", "[" * 500, '{"a":' * 60 + "1" + "}" * 60, "x" * 300, "y" * 70_000,
    "00000000-0000-0000-0000-000000000000", "not-a-uuid", "pending", "steps:\n  - name: [", "name: x\nsteps: []",
)  # fmt: skip
#: Sizes in bytes at which something may be decided.
_SIZES: Final = (255, 256, 1024, 4096, 64 * 1024, 256 * 1024, 1000_000, 1024 * 1024, 2 * 1024 * 1024)


class Lore:
    """What answers have told: uuids, cursors, names. Requests with these get further than others.

    Args:
        known: Values to begin with, by the name of the field that takes them.
        secret: Values that are not learned, so that what they name stays as it is.
    """

    def __init__(self, known: Mapping[str, list[str]], secret: frozenset[str] = frozenset()) -> None:
        self._known = known
        self._secret = secret
        self._told: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=50))

    def learn(self, message: Message) -> None:
        """Remember the texts of an answer, under the names of their fields."""
        for field, value in message.ListFields():
            if field.message_type is not None:
                if field.message_type.full_name == "google.protobuf.Struct":
                    continue
                if not field.message_type.GetOptions().map_entry:
                    for inner in list(value)[:5] if field.is_repeated else [value]:
                        self.learn(inner)
            elif field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
                if value in self._secret or len(value) >= 1000:
                    continue
                # next_page_token is what page_token takes, cursor what resume_cursor does
                self._told[field.name.removeprefix("next_")].append(value)
                if field.name == "cursor":
                    self._told["resume_cursor"].append(value)

    def tell(self, name: str, chance: random.Random) -> str | None:
        """Return something that a field of this name could hold."""
        known, told = self._known.get(name), self._told.get(name)
        values = known if known and (not told or chance.random() < 0.9) else told
        return chance.choice(values) if values else None


class RequestMaker:
    """Makes the requests of one call.

    Args:
        chance: Decides everything.
        lore: What is known of the server.
    """

    def __init__(self, chance: random.Random, lore: Lore) -> None:
        self._chance = chance
        self._lore = lore
        #: How many of the values are none that anybody would send.
        self._wildness = 0.0

    def request(self, kind: Descriptor) -> bytes:
        """Return a request for a method that takes messages of a kind."""
        ways: tuple[tuple[int, Callable[[Descriptor], bytes]], ...] = (
            (66, self._shaped),
            (14, self._mutated),
            (10, lambda _: self._chance.randbytes(self._chance.choice((0, 1, 2, 5, 40, 1000)))),
            (2, self._nested),
            (8, self._sized),
        )
        ((_, make),) = self._chance.choices(ways, [weight for weight, _ in ways])
        return make(kind)

    def _shaped(self, kind: Descriptor) -> bytes:
        self._wildness = self._chance.choice((0, 0, 0.02, 0.1, 0.5, 1))
        return self._message(kind, 0).SerializeToString()

    def _message(self, kind: Descriptor, depth: int) -> Message:
        message = GetMessageClass(kind)()
        fullness = self._chance.choice((0.2, 0.6, 0.9, 1.0))
        for field in self._one_of_each(kind):
            is_plain = field.message_type is None and not field.has_presence and not field.is_repeated
            if self._chance.random() < (max(fullness, 1 - self._wildness) if is_plain else fullness):
                self._fill(message, field, depth)
        return message

    def _one_of_each(self, kind: Descriptor) -> list[FieldDescriptor]:
        """Return the fields of a message, and of alternatives one."""
        taken = {self._chance.choice(alternatives.fields).name for alternatives in kind.oneofs}
        return [field for field in kind.fields if field.containing_oneof is None or field.name in taken]

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and depth >= _DEPTH:
            return
        target = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._fill_map(target, field.message_type, depth)
        elif field.is_repeated:
            for _ in range(self._chance.choice((1, 1, 2, 3, 20 if depth < 2 else 2))):
                if field.message_type is not None:
                    target.append(self._message(field.message_type, depth + 1))
                else:
                    target.append(self._scalar(field))
        elif field.message_type is not None:
            target.CopyFrom(self._message(field.message_type, depth + 1))
        else:
            setattr(message, field.name, self._scalar(field))

    def _fill_map(self, target: Any, entry: Descriptor, depth: int) -> None:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for _ in range(self._chance.choice((0, 1, 2, 5 if depth < 2 else 1))):
            if value.message_type is not None:
                target[self._scalar(key)].CopyFrom(self._message(value.message_type, depth + 1))
            else:
                target[self._scalar(key)] = self._scalar(value)

    def _scalar(self, field: FieldDescriptor) -> Any:
        chance = self._chance
        is_wild = chance.random() < self._wildness
        if field.enum_type is not None:
            values = [value.number for value in field.enum_type.values]
            return chance.choice((-1, 77, 2**31 - 1) if is_wild else values)
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                text = chance.choice(_TEXTS) if is_wild else self._tame_text(field.name)
                return text if field.type == FieldDescriptor.TYPE_STRING else text.encode()
            case FieldDescriptor.CPPTYPE_BOOL:
                return chance.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return chance.choice(_FLOATS) if is_wild else chance.randrange(100) / 4
            case FieldDescriptor.CPPTYPE_INT64:
                return chance.choice(_LONG_NUMBERS) if is_wild else chance.randrange(2_000_000_000)
            case FieldDescriptor.CPPTYPE_INT32:
                return chance.choice(_NUMBERS) if is_wild else chance.randrange(1, 100)
            case FieldDescriptor.CPPTYPE_UINT64 | FieldDescriptor.CPPTYPE_UINT32:
                return chance.choice((0, 1, 2**32 - 1))
        raise AssertionError(f"no value for {field.full_name}")

    def _tame_text(self, name: str) -> str:
        told = self._lore.tell(name, self._chance)
        if told is not None and self._chance.random() < 0.97:
            return told
        if name.endswith(("_uuid", "correlation_id")):
            return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        if name.endswith("_json"):
            return json.dumps({"n": self._chance.randrange(10**6)})
        return "" if name.endswith(("_token", "_cursor")) else self._chance.choice(("a", "b", "red"))

    def _mutated(self, kind: Descriptor) -> bytes:
        data = bytearray(self._shaped(kind)[:100_000])
        for _ in range(self._chance.choice((1, 2, 10))):
            at = self._chance.randrange(len(data) + 1)
            match self._chance.randrange(4):
                case 0:
                    data[at : at + 1] = self._chance.randbytes(1)
                case 1:
                    data[at:at] = self._chance.randbytes(self._chance.randrange(1, 5))
                case 2:
                    del data[at : at + self._chance.randrange(1, 9)]
                case _:
                    del data[at:]
        return bytes(data)

    def _nested(self, kind: Descriptor) -> bytes:
        """Return a field within itself more often than parsers go along with."""
        fields = [field.number for field in kind.fields if field.message_type] or [1]
        data = b""
        for _ in range(self._chance.choice((30, 99, 101, 400))):
            data = _tagged(self._chance.choice(fields), data)
        return data

    def _sized(self, kind: Descriptor) -> bytes:
        """Return a message with one field that makes it as large as something that is limited."""
        self._wildness = 0.0
        message = self._message(kind, 2)
        fields = [field for field in kind.fields if _can_grow(field)]
        if not fields:
            return self._chance.randbytes(self._chance.choice(_SIZES))
        # What may be large at all is worth more than what must not be.
        large = [field for field in fields if field.message_type or field.is_repeated or "json" in field.name]
        field = self._chance.choice(large if large and self._chance.random() < 0.7 else fields)
        size = self._chance.choice((*_SIZES, MOST_BYTES)) + self._chance.choice((-1, 0, 0, 1, 100))
        if size >= MOST_BYTES - 1:
            size -= len(message.SerializeToString())
        message.ClearField(field.name)
        if field.message_type is not None:
            self._grow(getattr(message, field.name), size)
        elif field.is_repeated:
            length = self._chance.choice((0, 1, 60))
            getattr(message, field.name).extend(["t" * length] * (size // (length + 2)))
        else:
            setattr(message, field.name, self._long_text(field.name, size))
        return message.SerializeToString()

    def _long_text(self, name: str, size: int) -> str:
        if name.endswith("_json") and self._chance.random() < 0.8:
            if self._chance.random() < 0.5:
                return '{"a": [' + "1," * (size // 2 - 5) + "1]}"
            return json.dumps({"a": "x" * (size - 10)})
        return "x" * size

    def _grow(self, struct: Any, size: int) -> None:
        if self._chance.random() < 0.7:
            struct.fields["a"].string_value = "x" * size
        else:  # nine bytes of number in a value in a list: costlier to read than a text of this size
            struct.fields["a"].list_value.values.add().number_value = 1
            once = struct.SerializeToString()
            values = struct.fields["a"].list_value.values
            values.extend([values[0]] * min(size // max(len(once) - 8, 1), 50_000))


def _can_grow(field: FieldDescriptor) -> bool:
    if field.message_type is not None:
        return field.message_type.full_name == "google.protobuf.Struct" and not field.is_repeated
    return field.type == FieldDescriptor.TYPE_STRING


def _tagged(number: int, data: bytes) -> bytes:
    """Return a field of a message that holds a message."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])
