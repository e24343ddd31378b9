"""The handler with several entry points."""

from __future__ import annotations

import pytest

from examples.resolvers import MultiMethod
from tasker.worker import StepValidationError
from tests.unit.examples.contexts import context, result


def test_processing_adds_the_fee_to_what_was_validated() -> None:
    validated = MultiMethod().validate(context({"data": {"amount": 100.0}}))
    assert validated == {"invoked_method": "validate", "amount": 100.0}
    processed = MultiMethod().process(context({}, validate_step=validated))
    assert processed == {"invoked_method": "process", "processed_amount": 110.0}


async def test_a_refund_gives_back_what_was_processed() -> None:
    at_hand = context({"data": {"reason": "damaged"}}, process_step={"processed_amount": 110.0})
    assert await MultiMethod().refund(at_hand) == {
        "invoked_method": "refund",
        "refunded_amount": 110.0,
        "reason": "damaged",
    }


def test_call_tells_what_ran_before() -> None:
    assert result(MultiMethod(), context({}, b={}, a={})) == {
        "invoked_method": "call",
        "steps_before": ["a", "b"],
    }


@pytest.mark.parametrize("data", [None, {}, {"amount": "1"}, {"amount": 0}, {"amount": -1}])
def test_an_amount_must_be_a_number_above_zero(data: object) -> None:
    with pytest.raises(StepValidationError, match="above 0"):
        MultiMethod().validate(context({"data": data}))
