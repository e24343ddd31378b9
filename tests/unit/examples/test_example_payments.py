"""The handlers of the payments team."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from examples import payments
from examples.payments import Eligibility, GatewayRefund, Refund
from tasker.testing import make_context, run_handler
from tasker.worker import HandlerError
from tests.unit.examples.contexts import context

REFUND = {"payment_id": "pay_1", "refund_amount": 5000, "customer_email": "ada@example.com"}


async def refunded(payment_id: str = "pay_1") -> GatewayRefund:
    eligible = Eligibility(payment_id=payment_id, refund_amount=5000)
    return await payments.refund_at_gateway(eligible, context({}))


async def test_a_second_attempt_refunds_nothing_twice() -> None:
    assert (await refunded()).refund_id == (await refunded()).refund_id


async def test_cents_come_as_doubles_and_stay_whole() -> None:
    ran = await run_handler(
        payments.validate_eligibility, make_context(inputs=REFUND | {"refund_amount": 5000.0})
    )
    assert ran.result == {"payment_id": "pay_1", "refund_amount": 5000, "status": "eligible"}


async def test_half_a_cent_is_refused() -> None:
    ran = await run_handler(
        payments.validate_eligibility, make_context(inputs=REFUND | {"refund_amount": 0.5})
    )
    assert ran.error is not None
    assert (ran.error.error_type, ran.error.retryable) == ("validation_error", False)


@pytest.mark.parametrize(("partial", "status"), [(False, "refunded"), (True, "partially_refunded")])
async def test_the_record_says_whether_all_of_it_went_back(partial: bool, status: str) -> None:
    record = await payments.update_records(
        Refund.model_validate(REFUND | {"partial_refund": partial}), await refunded()
    )
    assert record.payment_status == status


async def test_a_refund_without_an_address_tells_nobody() -> None:
    told = await payments.notify(Refund(payment_id="pay_1", refund_amount=1), await refunded())
    assert told.sent_to is None


@pytest.mark.parametrize(
    ("step", "marker", "code", "passes"),
    [
        ("validate", "pay_test_ineligible", "PAYMENT_INELIGIBLE", False),
        ("validate", "pay_test_processing", "PAYMENT_PROCESSING", True),
        ("gateway", "pay_test_gateway_error", "GATEWAY_REFUND_FAILED", False),
        ("gateway", "pay_test_gateway_timeout", "GATEWAY_TIMEOUT", True),
        ("gateway", "pay_test_rate_limit", "RATE_LIMITED", True),
        ("records", "pay_test_record_lock", "RECORD_LOCKED", True),
        ("notify", "ada@test_bounce", "EMAIL_BOUNCED", False),
        ("notify", "ada@test_invalid", "INVALID_EMAIL", False),
        ("notify", "ada@test_rate_limit", "RATE_LIMITED", True),
    ],
)
async def test_a_marker_fails_its_step_and_no_other(step: str, marker: str, code: str, passes: bool) -> None:
    mail = "@" in marker
    refund = Refund(
        payment_id="pay_1" if mail else marker, refund_amount=1, customer_email=marker if mail else "a@b"
    )
    good = await refunded()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "validate": lambda: payments.validate_eligibility(refund),
        "gateway": lambda: refunded(refund.payment_id),
        "records": lambda: payments.update_records(refund, good),
        "notify": lambda: payments.notify(refund, good),
    }
    with pytest.raises(HandlerError) as caught:
        await calls.pop(step)()
    assert (caught.value.error_code, caught.value.retryable) == (code, passes)
    for call in calls.values():
        await call()
