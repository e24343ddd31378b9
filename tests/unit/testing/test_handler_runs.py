"""Runs of one handler to the end of its step, and handlers that fail on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from tasker.testing import (
    assert_permanent,
    assert_retryable,
    assert_succeeded,
    batch_inputs,
    fail_n_times,
    make_context,
    run_handler,
    run_to_completion,
)
from tasker.worker import (
    BatchWorkerContext,
    HandlerDefinitionError,
    HandlerRegistry,
    PermanentError,
    RetryableError,
    StepContext,
    StepHandler,
    batch_worker,
    checkpoint_yield,
    step_handler,
)


@step_handler("charge", version="2.0.0")
async def charge(context: StepContext) -> dict[str, int]:
    return {"charged_in": context.attempt}


@step_handler("ship")
def ship() -> str:
    return "shipped"


class Refund(StepHandler):
    handler_name = "refund"

    def call(self, context: StepContext) -> Any:
        return self.success({"refunded_in": context.attempt})


@batch_worker("load")
def load(batch_context: BatchWorkerContext, context: StepContext) -> Any:
    """Loads 100 rows, 25 at a time, and loses the connection once at the row 50."""
    row = context.checkpoint_cursor or 0
    if row == 50 and context.attempt == 1:
        raise RetryableError("the connection is lost")
    if row < 75:
        return checkpoint_yield(row + 25, row + 25)
    return {"rows": row + 25, "attempt": context.attempt}


async def test_a_run_goes_on_from_checkpoints_and_after_failures() -> None:
    run = await run_to_completion(load, make_context(step_inputs=batch_inputs(0, 100)))
    assert run.result.result == {"rows": 100, "attempt": 2}
    assert [one["cursor"] for one in run.checkpoints] == [25, 50, 75]
    assert_retryable(run.results[0], message="connection is lost")
    assert run.attempts == 2


async def test_a_run_goes_on_from_the_checkpoint_of_its_context() -> None:
    context = make_context(step_inputs=batch_inputs(0, 100), checkpoint={"cursor": 50}, attempt=2)
    run = await run_to_completion(load, context)
    assert [one["cursor"] for one in run.checkpoints] == [75]
    assert run.attempts == 1
    context = make_context(step_inputs=batch_inputs(0, 100), checkpoint={"cursor": 50})
    assert [one["cursor"] for one in (await run_to_completion(load, context)).checkpoints] == [75]


async def test_a_run_ends_with_the_attempts() -> None:
    run = await run_to_completion(fail_n_times(5, charge), make_context(max_attempts=3))
    assert run.attempts == 3
    assert not run.result.success
    run = await run_to_completion(fail_n_times(5, charge), make_context(attempt=3, max_attempts=3))
    assert run.attempts == 1


async def test_a_permanent_failure_is_the_end() -> None:
    run = await run_to_completion(fail_n_times(1, charge, retryable=False))
    assert run.attempts == 1
    assert_permanent(run, "permanent_error", message="attempt 1 of 'charge' fails on purpose")


@pytest.mark.parametrize(
    ("handler", "result"),
    [
        (charge, {"charged_in": 3}),
        (ship, {"result": "shipped"}),
        (Refund, {"refunded_in": 3}),
        (Refund(), {"refunded_in": 3}),
        (None, {"attempt": 3}),
    ],
)
async def test_a_handler_fails_as_often_as_it_is_told_and_works_then(
    handler: Any, result: dict[str, Any]
) -> None:
    run = await run_to_completion(fail_n_times(2, handler), make_context(max_attempts=3))
    assert [one.success for one in run.results] == [False, False, True]
    assert assert_succeeded(run) == result


async def test_a_handler_that_never_fails_is_the_one_it_stands_in_for() -> None:
    result = await run_handler(fail_n_times(0, charge))
    assert (result.result, result.metadata.handler_version) == ({"charged_in": 1}, "2.0.0")


def test_a_stand_in_has_the_name_of_what_it_stands_in_for() -> None:
    registry = HandlerRegistry()
    assert registry.register(charge) == "charge"
    assert registry.replace(fail_n_times(1, charge)) == "charge"
    assert registry.resolve("charge").call is not charge
    assert registry.register(fail_n_times(1, name="shop.flaky")) == "shop.flaky"
    assert registry.callables() == ("charge", "shop.flaky")


def test_a_stand_in_needs_a_handler_and_a_number() -> None:
    with pytest.raises(HandlerDefinitionError, match="give 0 or more"):
        fail_n_times(-1)
    with pytest.raises(HandlerDefinitionError, match="is no handler"):
        fail_n_times(1, print)


async def test_what_replaces_a_resolved_handler_is_what_runs() -> None:
    registry = HandlerRegistry()
    registry.register(ship)
    before = registry.resolve("ship")

    @step_handler("ship")
    def broken() -> None:
        raise PermanentError("no ship")

    registry.replace(broken)
    assert registry.resolve("ship") is not before
    assert registry.resolve("ship").origin.endswith("broken")
