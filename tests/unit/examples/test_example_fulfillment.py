"""The handlers of the order's way to the customer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from examples import fulfillment
from tests.unit.examples.contexts import context

ORDER: dict[str, Any] = json.loads(
    (Path(fulfillment.__file__).parent / "order_fulfillment" / "order.json").read_text()
)
BEFORE: dict[str, Any] = {
    "validate_order": {"order_total": 209.97},
    "reserve_inventory": {"reservation_id": "RES-1", "reserved": {"WIDGET-001": 2}},
    "process_payment": {"payment_id": "PAY-1"},
}


async def test_the_order_is_added_up() -> None:
    made = await fulfillment.ValidateOrder().call(context(ORDER))
    assert made.result == {"customer_id": 12345, "item_count": 3, "order_total": 209.97}


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ({"items": []}, "items"),
        ({"items": [{"sku": "WIDGET-001", "quantity": 0, "price": 1}]}, "items.0.quantity"),
        ({"customer": {"id": 1, "name": "John"}}, "customer.email"),
        ({"shipping": {"method": "by hand", "address": {"zip": "1"}}}, "shipping.method"),
    ],
)
async def test_a_wrong_order_is_refused_by_its_model(fault: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        await fulfillment.ValidateOrder().call(context(ORDER | fault))
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [field]


async def test_items_are_reserved() -> None:
    made = await fulfillment.Reserve().call(context(ORDER))
    assert made.is_success
    assert made.result["reserved"] == {"WIDGET-001": 2, "GADGET-002": 1}


@pytest.mark.parametrize(
    ("sku", "quantity", "retryable", "code"),
    [
        ("NOTHING-000", 1, False, "UNKNOWN_ARTICLE"),
        ("RARITY-003", 1, True, "INSUFFICIENT_STOCK"),
        ("GADGET-002", 26, True, "INSUFFICIENT_STOCK"),
    ],
)
async def test_what_cannot_be_reserved(sku: str, quantity: int, retryable: bool, code: str) -> None:
    items = [{"sku": sku, "quantity": quantity, "price": 1}]
    made = await fulfillment.Reserve().call(context(ORDER | {"items": items}))
    assert (made.is_success, made.retryable, made.error_code) == (False, retryable, code)
    assert made.retry_after == (60 if retryable else None)


async def test_what_was_validated_is_paid() -> None:
    made = await fulfillment.Pay().call(context(ORDER, **BEFORE))
    assert (made.result["amount"], made.result["reservation_id"]) == (209.97, "RES-1")
    assert made.metadata == {"method": "credit_card"}


async def test_a_declined_payment_is_final() -> None:
    declined = ORDER | {"payment": {"method": "credit_card", "token": "tok_declined"}}
    made = await fulfillment.Pay().call(context(declined, **BEFORE))
    assert (made.is_success, made.retryable, made.error_code) == (False, False, "PAYMENT_DECLINED")


@pytest.mark.parametrize(("method", "days"), [("standard", 5), ("express", 1)])
async def test_what_was_paid_is_shipped(method: str, days: int) -> None:
    sent = ORDER | {"shipping": {"method": method, "address": {"zip": "12345"}}}
    made = await fulfillment.Ship().call(context(sent, **BEFORE))
    assert (made.result["contents"], made.result["payment_id"]) == ({"WIDGET-001": 2}, "PAY-1")
    today = datetime.now(UTC).date()
    assert made.result["expected_on"] in (today + timedelta(days=days), today + timedelta(days=days - 1))
