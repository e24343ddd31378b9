"""What a task may be started with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain.context import ContextRules, InputValidation, limit_violations, with_exact_integers
from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.domain.identity import canonical_json
from tasker.domain.json_schema import Schema

SCHEMA = {
    "type": "object",
    "required": ["order_id", "amount"],
    "properties": {
        "order_id": {"type": "string"},
        "amount": {"type": "number", "minimum": 0},
        "currency": {"type": "string", "default": "EUR"},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
        "address": {"type": "object", "properties": {"zip": {"type": "string", "default": "00000"}}},
    },
}


def violations(rules: ContextRules, context: object) -> list[str]:
    with pytest.raises(InvalidArgumentError) as caught:
        rules.prepare(context)
    return [str(violation) for violation in caught.value.violations]


def test_every_violation_is_listed() -> None:
    context = {"amount": -1, "items": [{"sku": "a"}, {}], "currency": 3}
    assert violations(ContextRules(input_schema=SCHEMA), context) == [
        'context: "order_id" is a required property',
        "context.amount: -1 is less than the minimum of 0",
        'context.currency: 3 is not of type "string"',
        'context.items[1]: "sku" is a required property',
    ]


def test_defaults_go_under_the_request_and_one_level_deep() -> None:
    rules = ContextRules(default_context={"amount": 5, "region": "eu"}, input_schema=SCHEMA)
    prepared = rules.prepare({"order_id": "o1", "amount": 7, "address": {}})
    assert prepared.context == {
        "amount": 7,
        "region": "eu",
        "order_id": "o1",
        "address": {},
        "currency": "EUR",
    }
    assert json.loads(prepared.text) == prepared.context
    assert prepared.warnings == ()


def test_no_context_is_an_empty_one() -> None:
    assert ContextRules().prepare(None).context == {}
    assert ContextRules(default_context={"a": 1}).prepare(None).context == {"a": 1}


def test_additional_properties_pass_unless_forbidden() -> None:
    assert ContextRules(input_schema={"type": "object"}).prepare({"x": 1}).context == {"x": 1}
    closed = ContextRules(input_schema={"type": "object", "additionalProperties": False})
    assert violations(closed, {"x": 1}) == ["context: the schema does not allow 1"]
    closed = ContextRules(input_schema={"properties": {"a": {}}, "additionalProperties": False})
    assert violations(closed, {"x": 1}) == [
        "context: Additional properties are not allowed ('x' was unexpected)"
    ]


def test_validation_may_warn_or_be_off_for_the_schema_only() -> None:
    warned = ContextRules(input_schema=SCHEMA, validation=InputValidation.WARN).prepare({"order_id": "o"})
    assert [str(warning) for warning in warned.warnings] == ['context: "amount" is a required property']
    off = ContextRules(input_schema=SCHEMA, validation=InputValidation.OFF)
    assert off.prepare({}).context == {"currency": "EUR"}
    assert off.prepare({}).warnings == ()
    assert violations(off, [1]) == ["context: must be an object, got an array"]


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_each_limit_is_one_violation() -> None:
    rules = ContextRules()
    context = {
        "deep": nested(10),
        "wide": list(range(1001)),
        "wide_too": dict.fromkeys(map(str, range(1001))),
        "long": ["x" * 10_001, "y" * 10_001],
    }
    assert violations(rules, context) == [
        "context.wide: has 1001 keys or items, maximum 1000",
        "context.long[0]: has 10001 characters, maximum 10000",
        "context.deep.a.a.a.a.a.a.a.a.a: is nested deeper than 10 levels",
    ]


def test_the_schema_is_not_tried_on_a_context_beyond_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def remember(schema: Schema, value: object) -> list[FieldViolation]:
        tried.append(value)
        return []

    monkeypatch.setattr(Schema, "violations", remember)
    rules = ContextRules(input_schema={"type": "object"})
    assert violations(rules, {"a": "x" * 10_001}) == ["context.a: has 10001 characters, maximum 10000"]
    assert tried == []
    rules.prepare({"a": "x" * 10_000})
    assert len(tried) == 1


def test_a_context_at_the_limits_is_fine() -> None:
    ContextRules().prepare({"deep": nested(9), "wide": [0] * 1000, "long": "x" * 10_000})
    ContextRules().prepare({str(n): "x" * 10_000 for n in range(104)})


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ({str(n): "x" * 10_000 for n in range(105)}, "takes 1050836 bytes as JSON, maximum 1048576"),
        ({"a": float("nan")}, "a is NaN, which JSON cannot express"),
        ({"a": "x\x00"}, "a holds a NUL character"),
        ({"a": "\ud800"}, "a holds half of a surrogate pair"),
    ],
)
def test_a_context_must_be_storable(context: dict[str, Any], problem: str) -> None:
    [violation] = violations(ContextRules(), context)
    assert violation.startswith("context: ")
    assert problem in violation


def test_a_context_that_contains_itself_ends() -> None:
    loop: dict[str, Any] = {}
    loop["a"] = loop
    assert [violation.field for violation in limit_violations(loop)] == ["context" + ".a" * 10]


def test_a_schema_that_leads_outside_or_nowhere_is_a_violation_and_never_fetched() -> None:
    outside = ContextRules(input_schema={"$ref": "http://127.0.0.1:9/schema.json"})
    [violation] = violations(outside, {})
    assert "Retrieval is disabled" in violation
    assert violations(ContextRules(input_schema={"$ref": "#"}), {}) == [
        "context: the schema refers to itself without end"
    ]


def test_doubles_that_are_integers_become_integers() -> None:
    struct = {"a": 1.0, "b": [2.5, -0.0, {"c": 2.0**53}], "d": 2.0**53 + 2, "e": float(-(2**53)), "f": True}
    exact = with_exact_integers(struct)
    assert exact == struct
    assert [type(exact["a"]), type(exact["b"][0]), type(exact["b"][2]["c"])] == [int, float, int]
    assert [type(exact["d"]), type(exact["e"]), type(exact["f"])] == [float, int, bool]
    assert canonical_json(exact) == canonical_json(struct)


@given(st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.booleans() | st.none() | st.text()))
def test_a_struct_round_trip_gives_the_json_back(context: dict[str, Any]) -> None:
    as_struct = {
        key: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for key, value in context.items()
    }
    restored = with_exact_integers(as_struct)
    assert restored == context
    assert {key: type(value) for key, value in restored.items()} == {
        key: type(value) for key, value in context.items()
    }
