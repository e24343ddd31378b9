"""What decision and batchable steps return, read strictly."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain.outcomes import (
    Batches,
    Choice,
    Cursor,
    chosen_steps,
    instance_inputs,
    planned_batches,
    tolerated_failure,
)
from tasker.domain.results import ExecutionMetadata, StepFailure
from tasker.domain.storable import MAX_PROBLEM_CHARACTERS
from tasker.domain.templates.document import BatchConfig, FailureStrategy
from tasker.domain.templates.expansion import OutcomeRefusedError
from tests.support.dynamic import decide, split

FAILURE = StepFailure("it broke", "handler_error", retryable=False)
CONTINUING = {"batch_metadata": {"failure_strategy": "continue_on_failure"}, "cursor": {"batch_id": "003"}}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def plan(result: object, *, max_batches: int = 1000) -> Batches:
    return planned_batches("b", result, max_batches=max_batches)


# Decisions


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_decision_names_branches_or_none(count: int) -> None:
    names = tuple(f"branch{n}" for n in range(count))
    assert chosen_steps("d", decide(*names) | {"why": "it says so"}) == Choice(names)


def test_names_are_taken_once_in_their_order() -> None:
    assert chosen_steps("d", decide("b", "a", "b")).names == ("b", "a")


def test_an_empty_list_of_names_is_tolerated() -> None:
    choice = chosen_steps("d", {"decision_point_outcome": {"type": "create_steps", "step_names": []}})
    assert choice.names == ()
    assert len(choice.warnings) == 1


@given(json_values, json_values)
def test_whatever_a_decision_returns_is_a_choice_or_refused(names: object, other: object) -> None:
    for outcome in (other, {"type": "create_steps", "step_names": names}, {"type": other}):
        with contextlib.suppress(OutcomeRefusedError):
            choice = chosen_steps("d", {"decision_point_outcome": outcome})
            assert all(choice.names)
    with pytest.raises(OutcomeRefusedError) as refusal:
        chosen_steps("d", other)
    assert refusal.value.error_code == "OUTCOME_MISSING"


# Batches


def test_a_split_is_read_as_it_was_made() -> None:
    batches = plan(split(2, size=200, worker="w"))
    assert batches == Batches("w", (Cursor("001", 0, 200, 200), Cursor("002", 200, 400, 200)))
    assert [cursor.to_json() for cursor in batches.cursors] == (
        split(2, size=200)["batch_processing_outcome"]["cursor_configs"]
    )


def test_nothing_to_do_may_name_the_worker_too() -> None:
    assert plan(split(0)) == Batches(None, ())
    outcome = {"type": "no_batches", "worker_template_name": "w"}
    assert plan({"batch_processing_outcome": outcome}) == Batches("w", ())


def test_ids_may_have_the_obsolete_prefix_and_more_than_three_digits() -> None:
    result = split(2)
    first, second = result["batch_processing_outcome"]["cursor_configs"]
    first["batch_id"], second["batch_id"] = "batch_007", "1000"
    batches = plan(result)
    assert [cursor.batch_id for cursor in batches.cursors] == ["007", "1000"]
    assert batches.warnings == ("batch_id 'batch_007': leave 'batch_' out",)


@pytest.mark.parametrize(("count", "limit", "refused"), [(3, 3, False), (4, 3, True)])
def test_there_is_a_limit_to_what_a_batch_may_be_split_into(count: int, limit: int, refused: bool) -> None:
    if not refused:
        assert len(plan(split(count), max_batches=limit).cursors) == count
        return
    with pytest.raises(OutcomeRefusedError, match="4 batches requested, maximum 3"):
        plan(split(count), max_batches=limit)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_id", None), ("batch_id", 1), ("batch_id", ""), ("batch_id", "01"), ("batch_id", "0 1"),
        ("batch_id", "001\n"), ("batch_id", "-001"), ("batch_id", "batch_1"),
        ("batch_size", -1), ("batch_size", 1.5), ("batch_size", True), ("batch_size", "10"), ("batch_size", None),
    ],
)  # fmt: skip
def test_a_part_that_is_wrong_is_refused(key: str, value: object) -> None:
    result = split(2)
    result["batch_processing_outcome"]["cursor_configs"][1][key] = value
    with pytest.raises(OutcomeRefusedError) as refusal:
        plan(result)
    assert refusal.value.error_code == "OUTCOME_MALFORMED"
    assert key in str(refusal.value)


@given(json_values, json_values, json_values)
def test_whatever_a_batchable_step_returns_is_a_plan_or_refused(
    part: object, count: object, other: object
) -> None:
    whole = split(1)["batch_processing_outcome"]
    changed: list[Any] = [
        other,
        whole | {"cursor_configs": [part]},
        whole | {"cursor_configs": part},
        whole | {"worker_count": count},
        whole | {"worker_template_name": other},
        whole | {"cursor_configs": [whole["cursor_configs"][0] | {"batch_id": part, "batch_size": count}]},
        whole
        | {"cursor_configs": [whole["cursor_configs"][0] | {"start_cursor": part, "end_cursor": other}]},
    ]
    for outcome in changed:
        with contextlib.suppress(OutcomeRefusedError):
            assert all(
                cursor.batch_id.isdecimal() for cursor in plan({"batch_processing_outcome": outcome}).cursors
            )


def test_what_is_quoted_of_a_result_stays_short() -> None:
    result = split(1)
    result["batch_processing_outcome"]["cursor_configs"][0]["batch_id"] = "x" * 10_000
    with pytest.raises(OutcomeRefusedError) as refusal:
        plan(result)
    assert len(str(refusal.value)) == MAX_PROBLEM_CHARACTERS


# Instances


def test_an_instance_is_given_its_setup_overlaid_with_its_share() -> None:
    config = BatchConfig(worker_template="w", cursor_field="row", failure_strategy=FailureStrategy.ISOLATE)
    given = {"level": 1, "is_no_op": "hidden"}
    assert instance_inputs("w", given, config, Cursor("001", 1, 3, 2)) == {
        "level": 1,
        "cursor": {"batch_id": "001", "start_cursor": 1, "end_cursor": 3, "batch_size": 2},
        "batch_metadata": {"cursor_field": "row", "failure_strategy": "isolate"},
        "is_no_op": False,
        "__template_step_name": "w",
    }
    assert given == {"level": 1, "is_no_op": "hidden"}
    nothing = instance_inputs("w", {}, config, None)
    assert nothing["is_no_op"] is True
    assert nothing["cursor"] == {"batch_id": "000", "start_cursor": 0, "end_cursor": 0, "batch_size": 0}


# Failures


@pytest.mark.parametrize(
    "inputs", [None, {}, {"batch_metadata": {}}, {"batch_metadata": {"failure_strategy": "fail_fast"}},
               {"batch_metadata": {"failure_strategy": "isolate"}}, {"batch_metadata": "continue_on_failure"}]
)  # fmt: skip
def test_only_batches_that_continue_tolerate_a_failure(inputs: object) -> None:
    assert tolerated_failure(inputs, None, FAILURE, ExecutionMetadata()) is None


@pytest.mark.parametrize(
    ("checkpoint", "context", "failure", "expected"),
    [
        (None, {}, FAILURE, 0),
        ({"items_processed": 7}, {"processed_before_failure": 4}, FAILURE, 7),
        ({"items_processed": "7"}, {"processed_before_failure": 4}, FAILURE, 4),
        (None, {"processed_before_failure": 4}, FAILURE, 4),
        (None, {}, StepFailure("it broke", "e", retryable=False, context={"processed_before_failure": 3}), 3),
        ("what", {"processed_before_failure": None}, FAILURE, 0),
        (None, {}, None, 0),
    ],
)
def test_a_tolerated_failure_says_why_and_how_far_it_came(
    checkpoint: object, context: dict[str, Any], failure: StepFailure | None, expected: int
) -> None:
    assert tolerated_failure(CONTINUING, checkpoint, failure, ExecutionMetadata(context=context)) == {
        "batch_failed": True,
        "error": failure.to_json() if failure else None,
        "processed_count": expected,
        "batch_id": "003",
    }


def test_what_the_splitting_handler_adds_to_a_part_reaches_its_instance() -> None:
    part = {
        "batch_id": "001",
        "start_cursor": 0,
        "end_cursor": 9,
        "step_size": 3,
        "metadata": {"shard": "eu"},
    }
    outcome = {"type": "create_batches", "worker_count": 1, "cursor_configs": [part]}
    plan = planned_batches("b", {"batch_processing_outcome": outcome}, max_batches=10)
    assert plan.cursors[0].to_json() == part | {"batch_size": 0}
