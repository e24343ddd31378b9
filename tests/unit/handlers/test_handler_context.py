"""What a handler can ask its context."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tasker.worker import CancelSignal
from tests.unit.handlers.conftest import CORRELATION, STEP, TASK, NewContext


@pytest.mark.parametrize(
    ("attempt", "retry_count", "is_retry", "is_last"),
    [(1, 0, False, False), (2, 1, True, False), (3, 2, True, True)],
)
def test_retries_are_counted_from_zero(
    new_context: NewContext, attempt: int, retry_count: int, is_retry: bool, is_last: bool
) -> None:
    context = new_context(attempt=attempt, max_attempts=3)
    assert (context.retry_count, context.max_retries) == (retry_count, 3)
    assert (context.is_retry(), context.is_last_retry()) == (is_retry, is_last)


def test_a_single_attempt_is_also_the_last(new_context: NewContext) -> None:
    assert new_context(attempt=1, max_attempts=1).is_last_retry()


def test_a_key_called_result_is_not_unwrapped(new_context: NewContext) -> None:
    context = new_context(dependency_results={"a": {"result": {"deep": [1, {"x": 2}]}, "more": 1}, "b": {}})
    assert context.get_dependency_result("a") == {"result": {"deep": [1, {"x": 2}]}, "more": 1}
    assert context.get_dependency_field("a", "result", "deep", 1, "x") == 2
    assert context.get_dependency_field("a", "result", "deep", 9) is None
    assert context.get_dependency_field("a", "more", "x") is None
    assert context.get_dependency_field("nobody", "x") is None
    assert context.get_dependency_result("nobody") is None
    assert context.get_dependency_result_keys() == ["a", "b"]


def test_aggregators_get_all_results_of_a_prefix_in_order(new_context: NewContext) -> None:
    results = {"load_002": {"n": 2}, "load_001": {"n": 1}, "other": {"n": 0}, "load_003": None}
    context = new_context(dependency_results=results)
    assert context.get_all_dependency_results("load_") == [{"n": 1}, {"n": 2}]


def test_inputs_are_the_tasks_and_config_is_the_steps(new_context: NewContext) -> None:
    context = new_context(
        input_data={"a": 1, "null": None}, step_inputs={"cursor": 5}, initialization={"url": "http://x"}
    )
    assert (context.get_input("a"), context.get_task_field("a"), context.get_input("no")) == (1, 1, None)
    assert (context.get_input_or("null", 3), context.get_input_or("a", 3), context.get_input_or("no")) == (
        3,
        1,
        None,
    )
    assert (context.get_config("url"), context.get_config("no")) == ("http://x", None)
    assert context.step_inputs == {"cursor": 5}


def test_without_an_initialization_of_its_own_the_stored_inputs_hold_it(new_context: NewContext) -> None:
    assert new_context(step_inputs={"url": "http://x"}).get_config("url") == "http://x"
    assert new_context(step_inputs={"url": "http://x"}, initialization={}).step_config == {}
    assert new_context().step_config == {}


def test_a_checkpoint_is_read_by_its_parts(new_context: NewContext) -> None:
    fresh = new_context()
    assert not fresh.has_checkpoint()
    assert (fresh.checkpoint_cursor, fresh.checkpoint_items_processed, fresh.accumulated_results) == (
        None,
        0,
        None,
    )
    resumed = new_context(checkpoint={"cursor": 0, "items_processed": 25, "accumulated_results": {"sum": 3}})
    assert resumed.has_checkpoint()
    assert resumed.checkpoint_cursor == 0
    assert (resumed.checkpoint_items_processed, resumed.accumulated_results) == (25, {"sum": 3})


def test_the_idempotency_key_is_stable_over_attempts(new_context: NewContext) -> None:
    first, second = new_context(attempt=1), new_context(attempt=2)
    assert first.idempotency_key == second.idempotency_key == f"{TASK}:{STEP}"
    assert new_context(step_uuid=uuid4()).idempotency_key != first.idempotency_key


def test_the_deadline_tells_how_much_time_is_left(new_context: NewContext) -> None:
    now = datetime.now(UTC)
    assert new_context().remaining_seconds() is None
    assert new_context(deadline=now - timedelta(seconds=1)).remaining_seconds() == 0
    left = new_context(deadline=now + timedelta(seconds=60)).remaining_seconds()
    assert left is not None
    assert 0 < left <= 60


def test_cancelled_means_what_it_says() -> None:
    signal = CancelSignal()
    assert (bool(signal), signal.is_set(), signal.wait(0), signal.reason) == (False, False, False, None)
    signal.set("lease lost")
    signal.set("timeout")
    assert (bool(signal), signal.is_set(), signal.wait(), signal.reason) == (True, True, True, "lease lost")


def test_the_same_facts_come_grouped(new_context: NewContext) -> None:
    context = new_context(
        attempt=2,
        input_data={"a": 1},
        step_inputs={"cursor": 5},
        initialization={"url": "u"},
        dependency_results={"b": {}},
        checkpoint={"cursor": 1},
        task_name="checkout",
        task_version="1.2.0",
        template_step_name="the_template_step",
    )
    view = context.task_sequence_step
    assert (view.task.name, view.task.version, view.task.namespace) == ("checkout", "1.2.0", "shop")
    assert (view.task.task_uuid, view.task.correlation_id, view.task.context) == (TASK, CORRELATION, {"a": 1})
    assert (view.workflow_step.name, view.workflow_step.attempts) == ("the_step", 2)
    assert (view.workflow_step.inputs, view.workflow_step.checkpoint) == ({"cursor": 5}, {"cursor": 1})
    assert view.dependency_results == {"b": {}}
    assert view.step_definition.name == "the_template_step"
    assert view.step_definition.callable == "the_handler"
    assert view.step_definition.initialization == {"url": "u"}
