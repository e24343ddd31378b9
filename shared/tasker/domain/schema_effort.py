"""How much a JSON Schema may ask of a single value, counted before any value is seen.

Alternatives that refer back to the whole schema under the same key are tried anew in each other on every level: what
is harmless on one level takes minutes ten levels down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

#: The most rules that a schema may try on one value.
MAX_EFFORT: Final = 1000
#: No value is nested deeper: JSON text of that depth is refused before it comes here.
_DEEPEST: Final = 1000

_Subschema: TypeAlias = Mapping[str, Any]
_Slot: TypeAlias = str | int | None

#: Keywords whose values are data, where `$ref` is no reference.
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS: Final = ("$anchor", "$dynamicAnchor")
_IDENTITIES: Final = ("$id", "id")
_Path: TypeAlias = tuple[str | int, ...]

#: Keywords whose subschemas are applied to the value itself.
_HERE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
#: Keywords whose subschemas are applied to what lies under one key or index, and to all that lies in a value.
_NAMED: Final = ("properties",)
_LISTED: Final = ("prefixItems", "items")
_ANY_KEY: Final = None
_ANY_ITEM: Final = -1
_EACH: Final[Mapping[_Slot, Sequence[str]]] = {
    _ANY_KEY: ("patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames"),
    _ANY_ITEM: ("items", "additionalItems", "unevaluatedItems", "contains"),
}
#: Keywords that hold subschemas by name rather than one of them or a list.
_BY_NAME: Final = frozenset({"patternProperties", "dependentSchemas", "dependencies"})
#: The same, wherever they are applied: below these a name is a name, whatever keyword it looks like.
_NAMES: Final = _BY_NAME | {"properties", "definitions", "$defs"}


class Nodes:
    """The subschemas of a schema, and what its references lead to."""

    def __init__(self, schema: _Subschema) -> None:
        self.root = schema

    def references(self) -> Iterator[str]:
        """Yield every reference."""
        for node in self.all:
            yield from (node[key] for key in _REFERENCES if isinstance(node.get(key), str))

    def target(self, reference: str) -> Any:
        """Return what a reference inside the schema leads to; None if that is nothing."""
        pointer = unquote(reference.removeprefix("#"))
        if pointer and not pointer.startswith("/"):
            return self._anchors.get(pointer)
        return self._pointed(pointer)

    def identities(self) -> Iterator[_Path]:
        """Yield where a subschema gives itself an identity, from which its references would count."""
        for path, node in self._placed:
            if path:
                yield from ((*path, key) for key in _IDENTITIES if isinstance(node.get(key), str))

    def ambiguous_anchors(self) -> list[str]:
        """Return anchors that more than one subschema has."""
        times = Counter(node["$anchor"] for node in self.all if isinstance(node.get("$anchor"), str))
        return [anchor for anchor, count in times.items() if count > 1]

    def _pointed(self, pointer: str) -> Any:
        found: Any = self.root
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, Mapping) and key in found:
                found = found[key]
            else:
                return None
        return found

    @cached_property
    def all(self) -> list[_Subschema]:
        """Every subschema, and whatever else has keys."""
        return [node for _, node in self._placed]

    @cached_property
    def _placed(self) -> list[tuple[_Path, _Subschema]]:
        """Every subschema with its path: data is none, unless a reference makes it one."""
        found: dict[tuple[int, bool], tuple[_Path, _Subschema]] = {}
        left: list[tuple[_Path, Any, bool]] = [((), self.root, False)]
        while left:
            path, node, by_name = left.pop()
            if isinstance(node, Mapping) and (id(node), by_name) not in found:
                found[id(node), by_name] = path, node
                left += [
                    ((*path, key), value, key in _NAMES and not by_name)
                    for key, value in node.items()
                    if by_name or key not in _DATA
                ]
                for reference in (node.get(keyword) for keyword in _REFERENCES):
                    if isinstance(reference, str) and reference.startswith("#/"):
                        left.append(((reference,), self._pointed(unquote(reference[1:])), False))
            elif isinstance(node, list):
                left += [((*path, index), item, False) for index, item in enumerate(node)]
        return list(found.values())

    @cached_property
    def _anchors(self) -> dict[str, _Subschema]:
        return {node[key]: node for node in self.all for key in _ANCHORS if isinstance(node.get(key), str)}


def effort_of(
    schema: _Subschema, weigh: Callable[[_Subschema], int] | None = None, *, at_most: int = MAX_EFFORT
) -> int:
    """Return how many rules a schema tries on one value in the worst case; beyond `at_most` nobody counts on.

    Args:
        schema: The schema.
        weigh: What a subschema costs a value that it is applied to, by itself; without it, its rules.
        at_most: Up to where it is counted.

    Raises:
        SchemaLoopError: It refers to itself without going down into the value.
    """
    try:
        return _Rules(Nodes(schema), weigh or _weight, at_most).effort()
    except (_BeyondError, RecursionError):
        return at_most + 1


class SchemaLoopError(ValueError):
    """A schema refers to itself without end."""

    def __init__(self) -> None:
        super().__init__("refers to itself without end")


class _BeyondError(Exception):
    """There is no need to count on."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The rules that meet at one value, and what they apply to the values inside it.

    Attributes:
        rules: How many they are.
        below: The subschemas under single keys and indices, and, by `_ANY_KEY` and `_ANY_ITEM`, under all of them.
    """

    rules: int
    below: Mapping[_Slot, Sequence[_Subschema]]


class _Rules:
    """Counts the rules of a schema."""

    def __init__(self, nodes: Nodes, weigh: Callable[[_Subschema], int], at_most: int) -> None:
        self._nodes = nodes
        self._weigh = weigh
        self._at_most = at_most
        self._together: dict[int, Counter[int]] = {}
        self._by_id: dict[int, _Subschema] = {}

    def effort(self) -> int:
        groups = self._groups()
        efforts = {key: group.rules for key, group in groups.items()}
        for _ in range(_DEEPEST):
            deeper = {key: max(group.rules, _below(group, efforts)) for key, group in groups.items()}
            if max(deeper.values()) > self._at_most:
                raise _BeyondError
            if deeper == efforts:
                break
            efforts = deeper
        return efforts[id(self._nodes.root)]

    def _groups(self) -> dict[int, _Group]:
        """Return the group of each subschema that some value in a document meets first."""
        groups: dict[int, _Group] = {}
        left = [self._nodes.root]
        while left:
            node = left.pop()
            if id(node) not in groups:
                groups[id(node)] = group = self._group(node)
                left += [child for children in group.below.values() for child in children]
        return groups

    def _group(self, node: _Subschema) -> _Group:
        rules = 0
        below: dict[_Slot, list[_Subschema]] = {}
        for key, times in self._reached(node, frozenset()).items():
            member = self._by_id[key]
            rules += times * self._weigh(member)
            for slot, child in _inner(member):
                below.setdefault(slot, []).extend([child] * times)
        if rules > self._at_most:
            raise _BeyondError
        return _Group(rules, below)

    def _reached(self, node: _Subschema, above: frozenset[int]) -> Counter[int]:
        """Return how often each subschema is applied to a value that `node` is applied to."""
        if id(node) in above:
            raise SchemaLoopError
        if (known := self._together.get(id(node))) is not None:
            return known
        self._by_id[id(node)] = node
        reached = Counter({id(node): 1})
        for other in self._beside(node):
            reached.update(self._reached(other, above | {id(node)}))
        if reached.total() > MAX_EFFORT:
            raise _BeyondError
        self._together[id(node)] = reached
        return reached

    def _beside(self, node: _Subschema) -> Iterator[_Subschema]:
        for keyword in _HERE:
            yield from _subschemas(node, keyword)
        for keyword in _REFERENCES:
            target = self._nodes.target(node[keyword]) if isinstance(node.get(keyword), str) else None
            if isinstance(target, Mapping):
                yield target


def _below(group: _Group, efforts: Mapping[int, int]) -> int:
    """Return the most rules tried on a value right inside one that the group meets."""
    sums = {slot: sum(efforts[id(child)] for child in children) for slot, children in group.below.items()}
    any_key, any_item = sums.pop(_ANY_KEY, 0), sums.pop(_ANY_ITEM, 0)
    single = (total + (any_item if isinstance(slot, int) else any_key) for slot, total in sums.items())
    return max(any_key, any_item, *single)


def _inner(node: _Subschema) -> Iterator[tuple[_Slot, _Subschema]]:
    """Yield what a subschema applies to the values inside its own."""
    for keyword in _NAMED:
        named = node.get(keyword)
        if isinstance(named, Mapping):
            yield from ((key, child) for key, child in named.items() if isinstance(child, Mapping))
    for keyword in _LISTED:
        listed = node.get(keyword)
        if isinstance(listed, list):
            yield from ((index, child) for index, child in enumerate(listed) if isinstance(child, Mapping))
    for slot, keywords in _EACH.items():
        for keyword in keywords:
            if not (keyword in _LISTED and isinstance(node.get(keyword), list)):
                yield from ((slot, child) for child in _subschemas(node, keyword))


def _subschemas(node: _Subschema, keyword: str) -> Iterator[_Subschema]:
    """Yield the subschemas that a keyword has: one, a list, or some by name."""
    value = node.get(keyword)
    found = value if isinstance(value, list) else [value]
    if keyword in _BY_NAME and isinstance(value, Mapping):
        found = list(value.values())
    yield from (child for child in found if isinstance(child, Mapping))


def _weight(node: _Subschema) -> int:
    """Return how many comparisons a subschema makes: texts of an `enum` are looked up, other values gone through."""
    allowed = node.get("enum")
    others = sum(not isinstance(value, str) for value in allowed) if isinstance(allowed, list) else 0
    patterns = node.get("patternProperties")
    return 1 + others + (len(patterns) if isinstance(patterns, Mapping) else 0)
