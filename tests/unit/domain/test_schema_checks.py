"""JSON Schemas that users bring: what is refused when they are registered, and that no check takes long."""

from __future__ import annotations

from typing import Any

import pytest

from tasker.domain.json_schema import MAX_CHECKS, MAX_VIOLATIONS, Schema, schema_problems
from tasker.domain.schema_effort import MAX_EFFORT, effort_of
from tasker.domain.schema_patterns import MAX_PATTERN_BYTES, MAX_PATTERNS_BYTES


def texts(schema: dict[str, Any], value: object) -> list[str]:
    return [str(violation) for violation in Schema(schema).violations(value)]


#: Each takes a backtracking engine longer than anybody waits.
CATASTROPHES = [
    ("^(a+)+$", "a" * 50_000 + "!"),
    ("(x|x|xy)*z", "x" * 50_000),
    (r"^(\w+\s?)*$", "a " * 20_000 + "!"),
]


@pytest.mark.parametrize(("pattern", "text"), CATASTROPHES)
def test_no_pattern_takes_longer_than_its_text_is(pattern: str, text: str) -> None:
    schema = {"properties": {"title": {"pattern": pattern}}}
    assert schema_problems(schema) == []
    [violation] = Schema(schema).violations({"title": text})
    assert violation.field == "title"
    assert "does not match" not in violation.description or len(violation.description) <= 500


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"a": {"pattern": "(?=b)b"}}}, "$.properties.a.pattern"),
        ({"properties": {"a": {"pattern": "(?<!b)c"}}}, "$.properties.a.pattern"),
        ({"items": {"pattern": r"(a)\1"}}, "$.items.pattern"),
        ({"pattern": "(((a{100}){100}){100})"}, "$.pattern"),
        ({"pattern": "["}, "$.pattern"),
        ({"patternProperties": {"(?=b)": {}}}, "$.patternProperties['(?=b)']"),
    ],
)
def test_a_pattern_beyond_the_engine_is_refused_by_its_path(schema: dict[str, Any], place: str) -> None:
    [problem] = schema_problems(schema)
    assert problem.startswith(f"{place}: ")
    assert "write it without look-around, back-references" in problem


#: Small enough to be registered, and hundreds of states for each character.
WIDE = "[01]*1[01]{300}x"


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"a": {"pattern": "[01]*1[01]{1000}x"}}}, "$.properties.a.pattern"),
        ({"patternProperties": {"[01]*1[01]{1000}x": {}}}, "$.patternProperties['[01]*1[01]{1000}x']"),
    ],
)
def test_a_pattern_too_large_when_compiled_is_refused_by_its_path(schema: dict[str, Any], place: str) -> None:
    [problem] = schema_problems(schema)
    assert problem.startswith(f"{place}: ")
    assert f"more than {MAX_PATTERN_BYTES} bytes when compiled" in problem


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"properties": {str(n): {"pattern": f"{WIDE}{n}"} for n in range(100)}}, "have fewer"),
        (
            {"allOf": [{"$ref": "#/definitions/w"}] * 100, "definitions": {"w": {"pattern": WIDE}}},
            "single text",
        ),
    ],
)
def test_patterns_too_large_together_are_refused(schema: dict[str, Any], told: str) -> None:
    [problem] = schema_problems(schema)
    assert f"more than {MAX_PATTERNS_BYTES} bytes" in problem
    assert told in problem


@pytest.mark.parametrize("rules", [{"pattern": WIDE}, {"patternProperties": {WIDE: {}}}])
def test_a_text_too_long_for_the_patterns_is_refused_and_a_shorter_one_is_not(rules: dict[str, Any]) -> None:
    schema = {"properties": {"a": rules}}
    assert schema_problems(schema) == []
    fits = f"1{'0' * 300}x"
    assert texts(schema, {"a": fits if "pattern" in rules else {fits: 1}}) == []
    long = "01" * 100_000
    [problem] = texts(schema, {"a": long if "pattern" in rules else {long: 1}})
    assert "too many for the patterns of the schema" in problem


def test_texts_as_long_as_a_context_holds_suit_common_patterns() -> None:
    address = r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$"
    schema = {"properties": {"to": {"pattern": address}, "name": {"pattern": r"^\p{L}+$"}}}
    assert schema_problems(schema) == []
    assert texts(schema, {"to": "ada@example.com", "name": "Ada", "note": "x" * 10_000}) == []
    assert (
        texts({"properties": {"to": {"pattern": address}}}, {"to": "a@b.cd", "note": "x" * 1_000_000}) == []
    )


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2026-02-28", "2026-02-30"),
        ("time", "10:00:00Z", "25:00:00Z"),
        ("date-time", "2026-02-28T10:00:00Z", "2026-02-28"),
        ("duration", "P1D", "1 day"),
        ("email", "ada@example.com", "ada"),
        ("uuid", "01980000-0000-7000-8000-000000000000", "0198"),
        ("uri", "https://example.com/a", "example"),
        ("hostname", "example.com", "-x-"),
        ("ipv4", "127.0.0.1", "127.0.0.256"),
        ("ipv6", "::1", "::g"),
    ],
)
@pytest.mark.parametrize("draft", [None, "https://json-schema.org/draft/2020-12/schema"])
def test_formats_are_checked_in_every_draft(name: str, good: str, bad: str, draft: str | None) -> None:
    schema = {"properties": {"a": {"format": name}}} | ({"$schema": draft} if draft else {})
    assert schema_problems(schema) == []
    assert texts(schema, {"a": good}) == []
    assert texts(schema, {"a": bad}) == [f'a: "{bad}" is not a "{name}"']


def doubling(levels: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {
        f"d{level}": {"allOf": [{"$ref": f"#/definitions/d{level + 1}"}] * 2} for level in range(levels)
    }
    return {"definitions": definitions | {f"d{levels}": {}}, "$ref": "#/definitions/d0"}


BRANCHING = {"anyOf": [*({"type": "array", "items": {"$ref": "#"}} for _ in range(4)), {"type": "integer"}]}


@pytest.mark.parametrize(
    "schema",
    [
        BRANCHING,
        doubling(30),
        {"items": {"$ref": "#/definitions/d0"}, "definitions": doubling(12)["definitions"]},
    ],
)
def test_a_schema_that_tries_everything_again_on_each_level_is_refused(schema: dict[str, Any]) -> None:
    [problem] = schema_problems(schema)
    assert f"may try more than {MAX_EFFORT} rules on a single value" in problem
    # One that was stored before anybody asked refuses values instead of taking minutes for them.
    deep: Any = "no"
    for _ in range(10):
        deep = [deep]
    [violation] = Schema(schema).violations([deep] * MAX_CHECKS)
    assert "too many for a schema" in violation.description


@pytest.mark.parametrize(
    "schema",
    [
        {"items": {"$ref": "#"}},
        {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}},
        {
            "oneOf": [
                {"properties": {word: {"items": {"$ref": "#"}}}, "required": [word]} for word in ("and", "or")
            ]
        },
        {
            "definitions": {"n": {"properties": {"next": {"$ref": "#/definitions/n"}}}},
            "$ref": "#/definitions/n",
        },
        {"properties": {"country": {"enum": [str(number) for number in range(5000)]}}},
        doubling(5),
    ],
)
def test_what_grows_with_the_value_alone_is_fine(schema: dict[str, Any]) -> None:
    assert schema_problems(schema) == []
    assert effort_of(schema) <= MAX_EFFORT


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"not": {"$ref": "#"}}, {"if": {"allOf": [{"$ref": "#"}]}}]
)
def test_a_schema_that_refers_to_itself_on_the_spot_is_refused(schema: dict[str, Any]) -> None:
    assert schema_problems(schema) == ["refers to itself without end"]


def hidden(**identity: str) -> dict[str, Any]:
    """Return a schema whose inner references would be harmless ones, did they count from the root."""
    inner = {**identity, "definitions": {"a": BRANCHING}, "items": {"$ref": "#/definitions/a"}}
    return {"definitions": {"a": {}}, "properties": {"x": inner}}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (hidden(**{"$id": "http://inner"}), "$.properties.x['$id']"),
        (hidden(**{"$id": "#inner"}), "$.properties.x['$id']"),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#"} | hidden(id="http://inner"),
            "$.properties.x.id",
        ),
        ({"properties": {"default": {"$id": "http://inner"}}}, "$.properties.default['$id']"),
        ({"$ref": "#/default", "default": {"items": {"$id": "http://inner"}}}, "['#/default'].items['$id']"),
    ],
)
def test_an_identity_below_the_root_is_refused_by_its_path(schema: dict[str, Any], place: str) -> None:
    [problem] = schema_problems(schema)
    assert f"{place}: below the root nothing may have an identity" in problem


def test_an_anchor_that_stands_twice_is_refused() -> None:
    twice = {"a": {"$anchor": "n"}, "b": {"$anchor": "n", **BRANCHING}}
    assert schema_problems({"$defs": twice, "$ref": "#n"}) == [
        "$anchor 'n' stands twice; give each a name of its own"
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"$id": "http://whole", "items": {"$ref": "#"}},
        {"properties": {"id": {"type": "string"}, "$id": {}}, "required": ["id"]},
        {"default": {"id": "a", "$id": "b"}, "enum": [{"$id": "c"}], "examples": [{"id": "d"}]},
    ],
)
def test_the_root_may_have_an_identity_and_data_may_look_like_one(schema: dict[str, Any]) -> None:
    assert schema_problems(schema) == []


def test_a_large_value_is_told_its_first_violation_only_and_one_of_too_many_values_that_alone() -> None:
    assert len(texts({"items": {"type": "string"}}, [1] * 1000)) == MAX_VIOLATIONS
    assert len(texts({"items": {"type": "string"}}, [1] * 500_000)) == 1
    [problem] = texts({"items": {"anyOf": [{"type": "string"}] * 20}}, [1] * 500_000)
    assert "keep the data elsewhere and refer to it" in problem


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"type": "integer"}, "4929 1234" * 20, 'is not of type "integer"'),
        ({"pattern": "^x"}, "4929 1234" * 20, 'does not match "^x"'),
        ({"anyOf": [{"type": "integer"}]}, {"card": ["4929 1234"] * 20}, "is not valid under any"),
        ({"uniqueItems": True}, ["4929 1234"] * 20, "has non-unique elements"),
        ({"properties": {"a": False}}, {"a": ["4929 1234"] * 20}, "the schema does not allow"),
    ],
)
def test_only_the_beginning_of_a_value_is_told(schema: dict[str, Any], value: object, told: str) -> None:
    [problem] = texts(schema, value)
    assert told in problem
    assert "..." in problem
    assert 3 <= problem.count("4929 1234") <= 5


def test_places_are_paths() -> None:
    schema = {"properties": {"a b": {"items": {"properties": {"c": {"type": "string"}}}}}}
    assert texts(schema, {"a b": [{"c": 1}]}) == ["['a b'][0].c: 1 is not of type \"string\""]
