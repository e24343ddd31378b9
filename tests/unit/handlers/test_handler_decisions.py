"""Steps that decide, in both styles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest

from tasker.worker import (
    Decision,
    DecisionHandler,
    DecisionMixin,
    DecisionPointOutcome,
    HandlerDefinitionError,
    HandlerMethodNotFoundError,
    Inputs,
    StepContext,
    StepHandler,
    StepHandlerResult,
    decision_handler,
)
from tests.unit.handlers.conftest import Run
from tests.unit.handlers.styles import Make, styles

ROUTED = {
    "decision_point_outcome": {"type": "create_steps", "step_names": ["ship", "bill"]},
    "routing_context": {"carrier": "rail"},
}
SKIPPED = {"decision_point_outcome": {"type": "no_branches"}, "reason": "nothing to ship"}
EMPTY = {"decision_point_outcome": {"type": "create_steps", "step_names": []}, "routing_context": {}}

mixin = DecisionMixin()

#: Every way of saying something, and what is stored of it.
SAID: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "route": (lambda: Decision.route(["ship", "bill"], carrier="rail"), ROUTED),
    "route twice": (lambda: Decision.route(["ship", "bill", "ship"], carrier="rail"), ROUTED),
    "a tuple": (lambda: Decision.route(("ship", "bill"), carrier="rail"), ROUTED),
    "nowhere": (lambda: Decision.route([]), EMPTY),  # orchestration warns about it
    "skip": (lambda: Decision.skip("nothing to ship"), SKIPPED),
    "skip with facts": (
        lambda: Decision.skip("nothing to ship", items=0),
        SKIPPED | {"routing_context": {"items": 0}},
    ),
    "success": (lambda: mixin.decision_success(["ship", "bill"], {"carrier": "rail"}), ROUTED),
    "route_to_steps": (lambda: mixin.route_to_steps(["ship", "bill"], {"carrier": "rail"}), ROUTED),
    "success with an outcome": (
        lambda: mixin.decision_success(
            DecisionPointOutcome.create_steps(["ship", "bill"]), {"carrier": "rail"}
        ),
        ROUTED,
    ),
    "outcome": (
        lambda: mixin.decision_success_with_outcome(
            DecisionPointOutcome.create_steps(["ship", "bill"], {"carrier": "rail"})
        ),
        ROUTED,
    ),
    "skip_branches": (lambda: mixin.skip_branches("nothing to ship"), SKIPPED),
    "no branches": (
        lambda: mixin.decision_no_branches(DecisionPointOutcome.no_branches("nothing to ship")),
        SKIPPED,
    ),
}


@styles
async def test_every_way_of_deciding_is_stored_alike(make: Make, run: Run) -> None:
    for what, (say, stored) in SAID.items():
        result = await run(make(say))
        assert (result.success, result.result) == (True, stored), what


@pytest.mark.parametrize("said", SAID)
async def test_decision_handlers_decide(said: str, run: Run) -> None:
    say, stored = SAID[said]

    @decision_handler("route", version="2.0.0")
    def sync() -> Any:
        return say()

    @decision_handler("route", version="2.0.0")
    async def on_the_loop() -> Any:
        return say()

    for handler in (sync, on_the_loop):
        result = await run(handler)
        assert (result.result, result.metadata.handler_version) == (stored, "2.0.0")


@pytest.mark.parametrize("value", [None, "ship", ["ship"], {"decision_point_outcome": {}}, True])
async def test_what_is_no_decision_fails_for_good(value: object, run: Run) -> None:
    @decision_handler("route")
    async def route() -> Any:
        return value

    result = await run(route)
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("decision_outcome_invalid", False)
    assert f"'route' returned {type(value).__name__}" in result.error.message
    assert "Decision.route" in result.error.message


async def test_names_that_are_none_fail_for_good(run: Run) -> None:
    for names in ("ship", ["ship", ""], [1], None, {"ship"}):

        @decision_handler("route")
        def route(names: Any = names) -> Decision:
            return Decision.route(names)

        result = await run(route)
        assert result.error is not None
        assert (result.error.error_type, result.error.retryable) == ("permanent_error", False)
        assert "a list of step names" in result.error.message


async def test_arguments_come_as_everywhere_and_the_function_stays_one(run: Run) -> None:
    @decision_handler("by_amount")
    def by_amount(amount: Annotated[float, Inputs("amount")]) -> Decision:
        return Decision.route(["auto"]) if amount < 1000 else Decision.route(["manager"])

    assert by_amount(5).step_names == ("auto",)
    routed = await run(by_amount, input_data={"amount": "1000"})
    assert routed.result["decision_point_outcome"]["step_names"] == ["manager"]
    refused = await run(by_amount, input_data={})
    assert refused.error is not None
    assert refused.error.error_type == "validation_error"


async def test_a_decision_may_fail(run: Run) -> None:
    @decision_handler("route")
    async def route() -> StepHandlerResult:
        return mixin.decision_failure("no rule fits", metadata={"rules": 3})

    result = await run(route)
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("decision_error", False)
    assert result.metadata.context == {"rules": 3}


def test_a_decision_with_branches_is_no_skip() -> None:
    with pytest.raises(ValueError, match="routes to ship"):
        mixin.decision_no_branches(DecisionPointOutcome.create_steps(["ship"]))


class Routes(DecisionHandler):
    handler_name = "routes"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.route_to_steps(["ship"], metadata={"rule": 7})


class Both(StepHandler, DecisionMixin):
    handler_name = "both"

    async def call(self, context: StepContext) -> Decision:
        return Decision.skip("why not")


async def test_classes_decide_with_the_mixin_in_any_order(run: Run) -> None:
    routed = await run(Routes)
    assert routed.result["decision_point_outcome"]["step_names"] == ["ship"]
    assert routed.metadata.custom == {"rule": 7}
    assert (await run(Both)).result["reason"] == "why not"
    assert Routes().capabilities == Both().capabilities == ["process", "decision"]


async def test_templates_cannot_run_what_a_mixin_offers_to_authors(run: Run) -> None:
    with pytest.raises(HandlerMethodNotFoundError, match="it has call"):
        await run(Routes, method="route_to_steps")


def test_a_name_is_needed() -> None:
    with pytest.raises(HandlerDefinitionError, match="@decision_handler needs the handler's name"):
        decision_handler(len)  # type: ignore[arg-type]
