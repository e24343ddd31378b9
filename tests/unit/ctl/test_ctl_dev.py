"""The request that `tasker dev` shows must be one that a template takes."""

from __future__ import annotations

from typing import Any

import pytest

from tasker.ctl.dev import example_of


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({}, "..."),
        ({"type": "string"}, "..."),
        ({"type": "string", "enum": ["a", "b"]}, "a"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 2, "multipleOf": 2}, 2),
        ({"type": "number", "default": 0.5}, 0.5),
        ({"type": "boolean"}, True),
        ({"type": "array"}, []),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"type": "object"}, {}),
        (
            {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}, "c": {}}},
            {"a": 1, "b": "..."},
        ),
        ({"type": "object", "required": ["a"], "examples": [{"a": 7}]}, {"a": 7}),
    ],
)
def test_example_of(schema: dict[str, Any], example: Any) -> None:
    assert example_of(schema) == example
