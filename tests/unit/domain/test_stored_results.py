"""Results as they are stored: their shape, and what PostgreSQL can keep."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain.results import (
    BackoffHint,
    BackoffType,
    ErrorType,
    ExecutionMetadata,
    OrchestrationMetadata,
    ResultStatus,
    StepExecutionResult,
    StepFailure,
    manual_completion,
)
from tasker.domain.storable import (
    MAX_PROBLEM_CHARACTERS,
    MAX_RESULT_BYTES,
    ResultNotStorableError,
    encode_json,
    serialization_problem,
)

FAILED = StepExecutionResult(
    step_uuid="0197b7f2-7c1e-7d3a-9c55-3f0f6d1a2b4c",
    success=False,
    status=ResultStatus.FAILED,
    result={},
    error=StepFailure("overloaded", "service_unavailable", True, ["line 1"], 503, {"url": "/pay"}),
    metadata=ExecutionMetadata(
        execution_time_ms=12,
        handler_version="1.0.0",
        retryable=True,
        started_at=datetime(2026, 3, 14, 12, tzinfo=UTC),
        completed_at=datetime(2026, 3, 14, 12, 0, 1, tzinfo=UTC),
        worker_id="worker_1",
        worker_hostname="host",
        error_code="E1",
        error_type="service_unavailable",
        context={"try": 1},
    ),
    orchestration_metadata=OrchestrationMetadata(
        headers={"Retry-After": "30"}, backoff_hint=BackoffHint(BackoffType.SERVER_REQUESTED, 30)
    ),
)


def test_the_wire_shape_has_every_key_of_the_contract() -> None:
    shape = FAILED.to_json()
    assert list(shape) == [
        "step_uuid",
        "success",
        "result",
        "status",
        "error",
        "metadata",
        "orchestration_metadata",
    ]
    assert set(shape["error"]) == {
        "message",
        "error_type",
        "backtrace",
        "retryable",
        "status_code",
        "context",
    }
    assert set(shape["metadata"]) == {
        "execution_time_ms",
        "handler_version",
        "retryable",
        "started_at",
        "completed_at",
        "worker_id",
        "worker_hostname",
        "custom",
        "error_code",
        "error_type",
        "context",
    }
    assert shape["orchestration_metadata"]["backoff_hint"] == {
        "backoff_type": "ServerRequested",
        "delay_seconds": 30,
        "context": None,
    }


def test_a_result_survives_being_stored() -> None:
    assert StepExecutionResult.from_json(json.loads(encode_json(FAILED.to_json()))) == FAILED
    done = StepExecutionResult("s", True, ResultStatus.COMPLETED, {"n": [1, 2.5, None]})
    assert StepExecutionResult.from_json(json.loads(encode_json(done.to_json()))) == done


def test_a_failure_stores_no_result() -> None:
    assert StepExecutionResult("s", False, ResultStatus.ERROR, {"half": "done"}).to_json()["result"] == {}


@pytest.mark.parametrize("nonsense", [None, 3, "x", [], {}, {"success": "yes"}])
def test_what_is_no_result_is_not_read_as_one(nonsense: object) -> None:
    assert StepExecutionResult.from_json(nonsense) is None


def test_a_sloppy_result_is_still_read() -> None:
    sloppy: dict[str, Any] = {
        "success": False,
        "status": ["retryable_error"],
        "error": {"message": 7, "retryable": "maybe", "backtrace": "oops", "status_code": True},
        "metadata": {"execution_time_ms": "fast", "started_at": "yesterday", "custom": []},
        "orchestration_metadata": {
            "headers": None,
            "backoff_hint": {"type": "rate_limit", "delay_seconds": 4},
        },
    }
    result = StepExecutionResult.from_json(sloppy)
    assert result is not None
    assert result.status is ResultStatus.FAILED
    assert result.error == StepFailure("", ErrorType.HANDLER_ERROR, True)
    assert result.metadata == ExecutionMetadata(retryable=True)
    assert result.orchestration_metadata == OrchestrationMetadata(
        backoff_hint=BackoffHint(BackoffType.RATE_LIMIT, 4)
    )


def test_whether_a_silent_result_may_be_retried() -> None:
    def retryable(data: dict[str, Any]) -> bool:
        result = StepExecutionResult.from_json({"success": False} | data)
        assert result is not None
        return result.metadata.retryable

    assert retryable({"status": "failed"})
    assert not retryable({"status": "error"})
    assert retryable({"status": "error", "metadata": {"retryable": True}})
    assert not retryable({"status": "failed", "error": {"message": "no", "retryable": False}})


@pytest.mark.parametrize("hint", [{"backoff_type": "Whim", "delay_seconds": 3}, {"delay_seconds": 3}, {}])
def test_a_hint_that_says_nothing_is_no_hint(hint: dict[str, Any]) -> None:
    result = StepExecutionResult.from_json(
        {"success": False, "orchestration_metadata": {"backoff_hint": hint}}
    )
    assert result is not None
    assert result.orchestration_metadata is not None
    assert result.orchestration_metadata.backoff_hint is None


def test_complete_manually_marks_the_result_whatever_the_operator_sent() -> None:
    result = manual_completion(
        "s", {"ok": 1}, {"ticket": "T1", "completed_by": "mallory"}, completed_by="sam", reason="by phone"
    )
    assert result.to_json()["success"] is True
    assert (result.status, result.error, result.metadata.execution_time_ms) == (
        ResultStatus.COMPLETED,
        None,
        0,
    )
    marks = {"manually_completed": True, "completed_by": "sam", "completion_reason": "by phone"}
    assert result.metadata.custom == {"ticket": "T1"} | marks
    other = manual_completion("s", [1], "see T1", completed_by="sam", reason="by phone")
    assert other.metadata.custom == {"operator_metadata": "see T1"} | marks


class Color(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        {},
        None,
        "text",
        {"emoji": "\U0001f600", "umlaut": "ä", "quote": '"', "line": "\n\x01"},
        {"backslash": "\\u0000"},
        {"big": 2**64, "tiny": 5e-324, "tuple": (1, 2), "enum": Color.RED},
        {1: "numbers become text as keys"},
    ],
)
def test_what_can_be_stored_comes_back(value: object) -> None:
    text = encode_json(value)
    assert json.loads(text) == json.loads(json.dumps(value))
    assert serialization_problem(value) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [{"b": "x\x00y"}]}, "a[0].b holds a NUL character"),
        ({"a": {"k\x00": 1}}, "a key of a holds a NUL character"),
        ({"a": "\ud800"}, "a holds half of a surrogate pair"),
        ({"a": ["fine \U0001f600", "\udc00"]}, "a[1] holds half of a surrogate pair"),
        ({"a": float("nan")}, "a is NaN, which JSON cannot express"),
        ({"a": [10**4300]}, "a[0] is a number of more than 4300 digits"),
        ([1, float("-inf")], "[1] is -inf"),
        ({"p": PurePath("x")}, "p is of type PurePosixPath, which is no JSON"),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, "when is of type datetime"),
        (b"x", "the value is of type bytes"),
        ({"s": {1, 2}}, "s is of type set"),
        ({(1, 2): 3}, "cannot be written as JSON"),
        ("x" * MAX_RESULT_BYTES, "takes 1048578 bytes as JSON, maximum 1048576"),
        ("ä" * (MAX_RESULT_BYTES // 2), "takes 1048578 bytes"),
    ],
)
def test_what_cannot_be_stored_says_where_and_why(value: object, problem: str) -> None:
    with pytest.raises(ResultNotStorableError) as caught:
        encode_json(value)
    assert problem in caught.value.problem
    assert serialization_problem(value) == caught.value.problem


def test_a_value_may_neither_contain_itself_nor_go_down_forever() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert serialization_problem(loop) == "contains itself"
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    assert serialization_problem(deep) == "is nested too deeply to be written as JSON"


def test_a_problem_can_itself_be_stored_and_is_short() -> None:
    problem = serialization_problem({"\x00\ud800" + "k" * 5000: {1}})
    assert problem is not None
    assert len(problem) <= MAX_PROBLEM_CHARACTERS
    encode_json(problem)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
    max_leaves=20,
)


@given(json_values)
def test_either_it_is_stored_unchanged_or_it_is_refused(value: object) -> None:
    try:
        text = encode_json(value)
    except ResultNotStorableError:
        return
    text.encode("utf-8")  # No lone surrogate.
    assert json.loads(text) == value
    assert all("\x00" not in part for part in strings_in(value))


def strings_in(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings_in(part)]
    if isinstance(value, list):
        return [text for item in value for text in strings_in(item)]
    return [value] if isinstance(value, str) else []
