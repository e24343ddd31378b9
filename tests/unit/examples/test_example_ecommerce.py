"""The handlers of the checkout."""

from __future__ import annotations

from typing import Any

import pytest

from examples import ecommerce
from tasker.worker import PermanentError, RetryableError, StepHandler
from tests.unit.examples.contexts import context, result

CART = [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}]
CUSTOMER = {"email": "customer@example.com", "name": "Sam Doe"}
PAYMENT = {"method": "credit_card", "token": "tok_test_valid", "amount": 124.76}
CHECKOUT: dict[str, Any] = {"cart_items": CART, "customer_info": CUSTOMER, "payment_info": PAYMENT}
VALID_CART = {"validated_items": [{"product_id": 1, "quantity": 2}], "total": 124.76}


def test_the_cart_is_priced() -> None:
    priced = result(ecommerce.ValidateCart(), context(CHECKOUT))
    assert (priced["subtotal"], priced["tax"], priced["shipping"], priced["total"]) == (
        109.97,
        8.80,
        5.99,
        124.76,
    )
    assert priced["validated_items"][0] == {
        "product_id": 1,
        "name": "Widget A",
        "price": 29.99,
        "quantity": 2,
        "line_total": 59.98,
    }


@pytest.mark.parametrize(("units", "cost"), [(1, 5.99), (4, 5.99), (5, 9.99), (20, 9.99), (21, 14.99)])
def test_shipping_goes_by_weight(units: int, cost: float) -> None:
    cart = {"cart_items": [{"product_id": 1, "quantity": units}]}
    assert result(ecommerce.ValidateCart(), context(cart))["shipping"] == cost


@pytest.mark.parametrize(
    ("cart", "code"),
    [
        (None, "MISSING_CART_ITEMS"),
        ([], "MISSING_CART_ITEMS"),
        ([{"quantity": 1}], "MISSING_PRODUCT_ID"),
        ([{"product_id": 1}], "INVALID_QUANTITY"),
        ([{"product_id": 1, "quantity": 0}], "INVALID_QUANTITY"),
        ([{"product_id": 9, "quantity": 1}], "PRODUCT_NOT_FOUND"),
        ([{"product_id": 5, "quantity": 1}], "PRODUCT_INACTIVE"),
    ],
)
def test_a_wrong_cart_fails_for_good(cart: object, code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        ecommerce.ValidateCart().call(context({"cart_items": cart}))
    assert caught.value.error_code == code


@pytest.mark.parametrize("item", [{"product_id": 4, "quantity": 1}, {"product_id": 3, "quantity": 26}])
def test_short_stock_is_tried_again_after_a_while(item: dict[str, int]) -> None:
    with pytest.raises(RetryableError) as caught:
        ecommerce.ValidateCart().call(context({"cart_items": [item]}))
    assert caught.value.retry_after == 30


@pytest.mark.parametrize(
    ("payment", "code"),
    [
        (None, "MISSING_PAYMENT_INFO"),
        ({"token": "t", "amount": 124.76}, "MISSING_PAYMENT_METHOD"),
        ({"method": "credit_card", "amount": 124.76}, "MISSING_PAYMENT_TOKEN"),
        (PAYMENT | {"amount": 124.78}, "PAYMENT_AMOUNT_MISMATCH"),
        (PAYMENT | {"amount": 124.74}, "PAYMENT_AMOUNT_MISMATCH"),
        (PAYMENT | {"token": "tok_test_declined"}, "PAYMENT_DECLINED"),
        (PAYMENT | {"token": "tok_test_insufficient_funds"}, "PAYMENT_DECLINED"),
    ],
)
def test_a_wrong_payment_fails_for_good(payment: object, code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        ecommerce.ProcessPayment().call(context({"payment_info": payment}, validate_cart=VALID_CART))
    assert caught.value.error_code == code


@pytest.mark.parametrize("amount", [124.75, 124.76, 124.77])
def test_a_cent_is_tolerated_and_a_second_attempt_is_the_same_payment(amount: float) -> None:
    at_hand = context({"payment_info": PAYMENT | {"amount": amount}}, validate_cart=VALID_CART)
    first, second = (result(ecommerce.ProcessPayment(), at_hand) for _ in range(2))
    assert first == second
    assert first["amount_charged"] == 124.76


def test_a_bank_that_does_not_answer_is_asked_again() -> None:
    payment = PAYMENT | {"token": "tok_test_network_error"}
    with pytest.raises(RetryableError) as caught:
        ecommerce.ProcessPayment().call(context({"payment_info": payment}, validate_cart=VALID_CART))
    assert caught.value.retry_after == 15


@pytest.mark.parametrize(
    ("handler", "inputs", "results", "code"),
    [
        (ecommerce.ProcessPayment(), CHECKOUT, {}, "MISSING_CART_TOTAL"),
        (ecommerce.UpdateInventory(), CHECKOUT, {}, "MISSING_VALIDATED_ITEMS"),
        (ecommerce.CreateOrder(), CHECKOUT, {}, "MISSING_VALIDATED_ITEMS"),
        (ecommerce.CreateOrder(), {}, {"validate_cart": VALID_CART}, "MISSING_CUSTOMER_INFO"),
        (ecommerce.SendConfirmation(), {}, {}, "MISSING_CUSTOMER_INFO"),
    ],
)
def test_what_a_step_misses_fails_it_for_good(
    handler: StepHandler, inputs: dict[str, Any], results: dict[str, Any], code: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        handler.call(context(inputs, **results))
    assert caught.value.error_code == code
