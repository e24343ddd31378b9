"""What values are as JSON: all of what they are, or a refusal that names the place."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pydantic
from pydantic_core import to_jsonable_python

from tasker.domain.storable import MAX_RESULT_BYTES

#: More values than this cannot be stored, whatever they are: each takes two bytes of JSON at least.
MAX_VALUES: Final = MAX_RESULT_BYTES // 2

#: The types of most values; nothing is inside them.
_SIMPLE: Final = frozenset({str, int, float, bool, type(None), datetime, date, UUID, Decimal})
_TEXT: Final = frozenset({str})
_SECRETS: Final = (pydantic.SecretStr, pydantic.SecretBytes, pydantic.Secret)
_HIDDEN: Final = str(pydantic.SecretStr("hidden"))


def to_jsonable(value: object) -> Any:
    """Return `value` built from JSON types only, complete: what would lose something on the way is refused.

    Models and dataclasses are dumped as what they are, not as what a field that holds them declares, with field names
    rather than aliases.

    Raises:
        ValueError: Something in it has no JSON form (an unknown type, an iterator, a cycle, text that is not
            Unicode), or none that keeps it (a secret, a key of a dict that no text stands for, two keys with one
            text). Or more values are in it than can be stored.
    """
    special = _inspect(value)
    try:
        plain = _plain(value)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    except Exception as exc:
        if place := _place_of_failure(value):
            raise ValueError(f"{place}: {exc}") from exc
        raise
    if special:
        _refuse_losses(value, plain, "")
    return plain


def _plain(value: object) -> Any:
    return to_jsonable_python(value, by_alias=False, polymorphic_serialization=True, fallback=_from_unknown)


def _from_unknown(value: Any) -> object:
    """Return what stands for a value that pydantic does not know: other mappings, and the scalars of numpy's kind."""
    if isinstance(value, Mapping):
        return dict(value)
    name = type(value).__name__
    if not hasattr(value, "dtype"):
        raise ValueError(f"a {name} has no JSON form")
    number = value.item() if getattr(value, "ndim", None) == 0 else None
    # An instant or a time span of numpy's may give a number, too, of a unit that would be lost.
    if type(number) in (bool, int, float) and not any(kind in str(value.dtype) for kind in ("date", "time")):
        return number
    raise ValueError(f"a {name} has no JSON form; give its `tolist()`, or what it stands for")


def _inspect(value: object) -> bool:
    """Refuse what must not even be read, since nothing can interrupt that: it would never end, or take very long.

    Looks into containers only: what a model or dataclass holds is its author's to say.

    Returns:
        Whether something in it might lose a part on its way to JSON.

    Raises:
        ValueError: There is an iterator in it, or more values than can be stored.
    """
    special: list[object] = []
    try:
        _count_down(value, MAX_VALUES, special)
    except _IteratorFoundError as found:
        raise ValueError(str(found)) from None
    except RecursionError:
        pass  # a cycle, or nested too deeply: who reads it next comes to the same place first, and says so
    return bool(special)


def _count_down(value: object, left: int, special: list[object]) -> int:
    """Take the number of values inside a value from `left`, and return the rest; note what is no plain data.

    Every result passes here, which is why this is written for speed.
    """
    kind = type(value)
    inside: Any = value if kind is dict or kind is list else _inside(value)
    left -= len(inside)
    if left < 0:
        raise ValueError(f"holds more than {MAX_VALUES} values; keep the data elsewhere and refer to it")
    if kind is not list and (kind is not dict or not _TEXT.issuperset(map(type, inside))):
        special.append(value)
    part = None
    try:
        for part in inside.values() if isinstance(inside, dict) else inside:
            if type(part) not in _SIMPLE:
                left = _count_down(part, left, special)
    except _IteratorFoundError as found:
        places = inside.items() if isinstance(inside, dict) else enumerate(inside)
        found.place.insert(0, next((place for place, one in places if one is part), "?"))
        raise
    return left


class _IteratorFoundError(Exception):
    def __init__(self, iterator: object) -> None:
        super().__init__()
        self.kind = type(iterator).__name__
        self.place: list[object] = []

    def __str__(self) -> str:
        if not self.place:
            return f"a {self.kind} is no result; return what it yields, as a list"
        place = ""
        for key in self.place:
            place = _deeper(place, key)
        return f"{place} is a {self.kind}, which may have no end; give what it yields, as a list"


def _inside(value: object) -> Collection[object]:
    """Return what is in a container; nothing is in anything else."""
    if isinstance(value, Iterator):
        raise _IteratorFoundError(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value if isinstance(value, (list, tuple, set, frozenset, deque)) else ()


def _refuse_losses(value: object, plain: object, place: str) -> None:
    """Refuse a value of which a part is not in what became of it, and no serializer of its author's took it out.

    Raises:
        ValueError: With the place of the part, and what to do.
    """
    if isinstance(value, _SECRETS):
        if plain == _plain(value) and value.get_secret_value() not in (plain, b""):
            raise ValueError(
                f"{place or 'the value'} is a {type(value).__name__}, whose value would not be stored; leave it out "
                "(`exclude=True`), or give what `get_secret_value()` returns, if everybody may read it"
            )
    elif isinstance(value, Mapping):
        _refuse_lost_keys(value, plain, place)
    elif dataclasses.is_dataclass(value) and isinstance(plain, dict):
        _refuse_lost_fields(type(value), plain, place)
    for key, part, found in _pairs(value, plain):
        _refuse_losses(part, found, _deeper(place, key))


def _refuse_lost_keys(value: Mapping[Any, Any], plain: object, place: str) -> None:
    if not isinstance(plain, dict):
        return
    texts: dict[str, object] = {}
    for key in value:
        text = _key_text(key)
        if text in plain and (key is None or isinstance(key, tuple)):
            raise ValueError(
                f"a key of {place or 'the value'} is {key!r}, which no text stands for; give a list of pairs"
            )
        if text in plain and text in texts:
            raise ValueError(
                f"keys {texts[text]!r} and {key!r} of {place or 'the value'} are the same in JSON, so that the value "
                "of one would be lost"
            )
        texts[text] = key


def _key_text(key: object) -> str:
    """Return what a key is called in JSON."""
    text: str = key if type(key) is str else next(iter(_plain({key: None})))
    return text


def _refuse_lost_fields(kind: type, plain: Mapping[str, object], place: str) -> None:
    """Refuse a plain dataclass that was taken for one that it derives from; pydantic's own know better."""
    fields = _field_names(kind)
    if fields - plain.keys() and any(_field_names(base) == plain.keys() for base in kind.mro()[1:]):
        raise ValueError(
            f"{place or 'the value'} is a {kind.__name__} where a field declares another dataclass, so that "
            f"{', '.join(sorted(fields - plain.keys()))} would be lost; declare the field as it is, or make it a model"
        )


def _field_names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()


def _pairs(value: object, plain: object) -> Iterator[tuple[object, object, object]]:
    """Yield the parts of a value that are found again in what became of it: place, part, and what became of that."""
    if isinstance(value, pydantic.RootModel):
        yield None, value.root, plain
    elif isinstance(plain, dict):
        for key, part in _parts(value):
            if key in plain:
                yield key, part, plain[key]
        if isinstance(value, pydantic.BaseModel):
            for name in type(value).model_computed_fields:
                if plain.get(name) == _HIDDEN:
                    yield name, getattr(value, name), _HIDDEN
    elif isinstance(plain, list) and isinstance(value, Collection) and len(plain) == len(value):
        for (index, part), found in zip(_parts(value), plain, strict=True):
            yield index, part, found


def _parts(value: object) -> Iterator[tuple[Any, object]]:
    """Yield what is directly in a value, with the key, field or index that it is found by in JSON."""
    if isinstance(value, pydantic.BaseModel):
        yield from vars(value).items()
        yield from (value.model_extra or {}).items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                yield field.name, getattr(value, field.name)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield _key_text(key), part
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from enumerate(value)


def _place_of_failure(value: object) -> str:
    """Return the place of the innermost part that has no JSON form; empty if it is the value itself, or in a cycle."""
    place, above = "", [value]
    try:
        while (failing := next(filter(_fails, _parts(value)), None)) is not None:
            key, value = failing
            if any(value is one for one in above):
                return ""
            place, above = _deeper(place, key), [*above, value]
    except Exception:  # a key, or a field of the author's, that cannot even be read
        return place
    return place


def _fails(part: tuple[object, object]) -> bool:
    try:
        _plain(part[1])
    except Exception:
        return True
    return False


def _deeper(place: str, key: object) -> str:
    if key is None:
        return place
    if isinstance(key, int):
        return f"{place}[{key}]"
    return f"{place}.{key}" if place else str(key)
