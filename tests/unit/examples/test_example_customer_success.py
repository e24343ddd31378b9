"""The handlers of the customer success team; the task that they create is looked at end to end."""

from __future__ import annotations

import re

import pytest

from examples import customer_success
from examples.customer_success import Policy, PolicyCheck, RefundRequest, Tier, ValidRequest
from tasker.testing import make_context, run_handler
from tasker.worker import HandlerError, PermanentError


def request(ticket_id: str = "ticket_1", amount: int = 5000, *, asks: bool = False) -> RefundRequest:
    return RefundRequest(
        ticket_id=ticket_id,
        customer_id="cust_1",
        refund_amount=amount,
        customer_email="ada@example.com",
        requires_approval=asks,
    )


def valid(tier: Tier = "premium", *, age: int = 29) -> ValidRequest:
    return ValidRequest(ticket_id="ticket_1", payment_id="pay_1", tier=tier, purchase_age_days=age)


def checked(*, approval_needed: bool) -> PolicyCheck:
    policy = Policy(window_days=1, requires_approval=approval_needed, max_amount=1)
    return PolicyCheck(policy=policy, approval_needed=approval_needed)


@pytest.mark.parametrize(
    ("customer_id", "tier"),
    [
        ("cust_premium_456", "premium"),
        ("VIP-7", "premium"),
        ("Gold_1", "gold"),
        ("gold_vip", "premium"),
        ("cust_1", "standard"),
    ],
)
def test_the_id_tells_the_tier(customer_id: str, tier: str) -> None:
    assert customer_success.tier_of(customer_id) == tier


async def test_a_ticket_leads_to_its_payment() -> None:
    first, again, other = [
        await customer_success.validate_request(request(ticket)) for ticket in ("t-1", "t-1", "t-2")
    ]
    assert first == again
    assert first.payment_id != other.payment_id
    assert re.fullmatch(r"pay_[a-zA-Z0-9_]+", first.payment_id)


@pytest.mark.parametrize(("tier", "needed"), [("standard", True), ("gold", False), ("premium", False)])
async def test_only_the_standard_tier_needs_an_approval(tier: Tier, needed: bool) -> None:
    check = await customer_success.check_policy(request(), valid(tier))
    assert check.approval_needed is needed


async def test_an_agent_may_ask_for_an_approval() -> None:
    check = await customer_success.check_policy(request(asks=True), valid("premium"))
    assert check.approval_needed


@pytest.mark.parametrize(("tier", "most"), [("standard", 10_000), ("gold", 50_000), ("premium", 100_000)])
async def test_a_tier_has_a_highest_amount(tier: Tier, most: int) -> None:
    await customer_success.check_policy(request(amount=most), valid(tier))
    with pytest.raises(PermanentError) as caught:
        await customer_success.check_policy(request(amount=most + 1), valid(tier))
    assert caught.value.error_code == "AMOUNT_EXCEEDS_POLICY"


@pytest.mark.parametrize(("tier", "days"), [("standard", 30), ("gold", 60), ("premium", 90)])
async def test_a_tier_has_a_window(tier: Tier, days: int) -> None:
    await customer_success.check_policy(request(), valid(tier, age=days))
    with pytest.raises(PermanentError) as caught:
        await customer_success.check_policy(request(), valid(tier, age=days + 1))
    assert caught.value.error_code == "REFUND_WINDOW_EXPIRED"


async def test_nobody_is_asked_where_the_policy_suffices() -> None:
    given = await customer_success.manager_approval(request("ticket_denied"), checked(approval_needed=False))
    assert (given.auto_approved, given.approved_by) == (True, "policy")


async def test_a_manager_is_asked_where_it_does_not() -> None:
    given = await customer_success.manager_approval(request(), checked(approval_needed=True))
    assert (given.approved, given.auto_approved) == (True, False)


@pytest.mark.parametrize(
    ("ticket", "code", "passes"),
    [("ticket_denied", "APPROVAL_DENIED", False), ("ticket_pending", "APPROVAL_PENDING", True)],
)
async def test_a_manager_may_say_no_or_nothing(ticket: str, code: str, passes: bool) -> None:
    with pytest.raises(HandlerError) as caught:
        await customer_success.manager_approval(request(ticket), checked(approval_needed=True))
    assert (caught.value.error_code, caught.value.retryable) == (code, passes)


@pytest.mark.parametrize(
    ("ticket", "code"),
    [
        ("ticket_closed", "TICKET_CLOSED"),
        ("ticket_cancelled", "TICKET_CANCELLED"),
        ("ticket_duplicate", "TICKET_DUPLICATE"),
    ],
)
async def test_a_ticket_that_is_over_is_not_refunded(ticket: str, code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        await customer_success.validate_request(request(ticket))
    assert caught.value.error_code == code


@pytest.mark.parametrize(
    ("ticket", "code"), [("ticket_locked", "TICKET_LOCKED"), ("ticket_update_error", "UPDATE_FAILED")]
)
async def test_a_ticket_that_cannot_be_written_is_tried_again(ticket: str, code: str) -> None:
    delegated = {
        "target_namespace": "payments",
        "target_workflow": "process_refund",
        "target_version": "1.0.0",
        "delegated_task_uuid": "01980000-0000-7000-8000-000000000000",
    }
    ran = await run_handler(
        customer_success.update_ticket,
        make_context(
            inputs=request(ticket).model_dump(), dependencies={"execute_refund_workflow": delegated}
        ),
    )
    assert ran.error is not None
    assert (ran.metadata.error_code, ran.error.retryable) == (code, True)


async def test_a_service_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens on port 1."""
    monkeypatch.setenv("TASKER_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(customer_success, "PATIENCE_SECONDS", 0.1)
    ran = await run_handler(
        customer_success.delegate_refund,
        make_context(inputs=request().model_dump(), dependencies={"validate_refund_request": valid()}),
    )
    assert ran.error is not None
    assert ran.error.retryable
