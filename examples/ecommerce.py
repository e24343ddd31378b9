"""Handlers of a checkout: cart, payment, stock, order, confirmation; shop and bank are tables in here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from tasker.worker import PermanentError, RetryableError, StepContext, StepHandler


@dataclass(frozen=True)
class Product:
    name: str
    price: float
    stock: int
    active: bool = True


CATALOGUE: Final = {
    1: Product("Widget A", 29.99, stock=100),
    2: Product("Widget B", 49.99, stock=50),
    3: Product("Widget C", 19.99, stock=25),
    4: Product("Widget D", 39.99, stock=0),
    5: Product("Widget E", 59.99, stock=10, active=False),
}

TAX_RATE: Final = 0.08
POUNDS_PER_UNIT: Final = 0.5
SHIPPING_UP_TO_POUNDS: Final = {2: 5.99, 10: 9.99}
SHIPPING_ABOVE: Final = 14.99

AMOUNT_TOLERANCE: Final = 0.01

RESTOCKED_AFTER_SECONDS: Final = 30
BANK_BACK_AFTER_SECONDS: Final = 15
REFUSED_TOKENS: Final = {
    "tok_test_declined": "the bank declined the card",
    "tok_test_insufficient_funds": "there is not enough money in the account",
}
UNREACHABLE_TOKENS: Final = ("tok_test_network_error",)


class ValidateCart(StepHandler):
    """Prices the cart. What the customer got wrong is final; what is out of stock may come back."""

    def call(self, context: StepContext) -> dict[str, Any]:
        items = context.get_input("cart_items")
        require(items, "MISSING_CART_ITEMS", "the cart is empty")
        lines = [priced(item) for item in items]
        subtotal = round(sum(line["line_total"] for line in lines), 2)
        tax = round(subtotal * TAX_RATE, 2)
        shipping = shipping_cost(sum(line["quantity"] for line in lines))
        return {
            "validated_items": lines,
            "subtotal": subtotal,
            "tax": tax,
            "shipping": shipping,
            "total": round(subtotal + tax + shipping, 2),
        }


class ProcessPayment(StepHandler):
    """Charges the card, if the customer agreed to the amount; a cent more or less is rounding."""

    def call(self, context: StepContext) -> dict[str, Any]:
        payment = context.get_input("payment_info")
        require(payment, "MISSING_PAYMENT_INFO", "payment_info is missing")
        require(payment.get("method"), "MISSING_PAYMENT_METHOD", "payment_info.method is missing")
        require(payment.get("token"), "MISSING_PAYMENT_TOKEN", "payment_info.token is missing")
        total = context.get_dependency_field("validate_cart", "total")
        require(total, "MISSING_CART_TOTAL", "validate_cart left no total")
        amount = payment.get("amount", 0)
        agreed = round(abs(amount - total), 2) <= AMOUNT_TOLERANCE
        require(
            agreed, "PAYMENT_AMOUNT_MISMATCH", f"the customer agreed to {amount}, the cart comes to {total}"
        )
        return {
            "payment_id": charge(payment["token"], total, idempotency_key=context.idempotency_key),
            "amount_charged": total,
            "currency": "USD",
            "payment_method": payment["method"],
            "status": "completed",
        }


class UpdateInventory(StepHandler):
    """Takes what was paid for out of the stock."""

    def call(self, context: StepContext) -> dict[str, Any]:
        return {
            "updated_products": [
                {
                    "product_id": item["product_id"],
                    "quantity": item["quantity"],
                    "stock_left": in_stock(item["product_id"], item["quantity"]).stock - item["quantity"],
                }
                for item in validated_items(context)
            ],
            "status": "reserved",
        }


class CreateOrder(StepHandler):
    """Writes the order, from the results of all steps before it."""

    def call(self, context: StepContext) -> dict[str, Any]:
        items = validated_items(context)
        customer = context.get_input("customer_info")
        require(customer, "MISSING_CUSTOMER_INFO", "customer_info is missing")
        # The step's uuid is the same in every attempt: a second one writes the same order, not another.
        suffix = context.step_uuid.hex[-8:].upper()
        return {
            "order_id": f"ORD-{datetime.now(UTC):%Y%m%d}-{suffix}",
            "status": "confirmed",
            "customer": customer["name"],
            "items": items,
            "total": context.get_dependency_field("validate_cart", "total"),
            "payment_id": context.get_dependency_field("process_payment", "payment_id"),
        }


class SendConfirmation(StepHandler):
    """Tells the customer."""

    def call(self, context: StepContext) -> dict[str, Any]:
        customer = context.get_input("customer_info")
        require(customer and customer.get("email"), "MISSING_CUSTOMER_INFO", "customer_info.email is missing")
        order_id = context.get_dependency_field("create_order", "order_id")
        return {"recipient": customer["email"], "subject": f"Your order {order_id}", "status": "sent"}


def require(condition: object, error_code: str, message: str) -> None:
    """Fail the step for good unless a condition holds: another attempt would find the same."""
    if not condition:
        raise PermanentError(message, error_code=error_code)


def priced(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return one line of the cart with its price."""
    product_id, quantity = item.get("product_id"), item.get("quantity", 0)
    require(product_id, "MISSING_PRODUCT_ID", "a cart item has no product_id")
    require(quantity >= 1, "INVALID_QUANTITY", f"the quantity must be at least 1, got {quantity}")
    product = in_stock(product_id, quantity)
    return {
        "product_id": product_id,
        "name": product.name,
        "price": product.price,
        "quantity": quantity,
        "line_total": round(product.price * quantity, 2),
    }


def in_stock(product_id: Any, quantity: int) -> Product:
    """Return a product of which there is enough."""
    product = CATALOGUE.get(product_id)
    if product is None:
        raise PermanentError(f"there is no product {product_id}", error_code="PRODUCT_NOT_FOUND")
    require(product.active, "PRODUCT_INACTIVE", f"{product.name} is no longer sold")
    if quantity > product.stock:
        raise RetryableError(
            f"{quantity} of {product.name} wanted, {product.stock} in stock",
            error_code="INSUFFICIENT_STOCK",
            retry_after=RESTOCKED_AFTER_SECONDS,
        )
    return product


def shipping_cost(units: int) -> float:
    """Return what sending so many units costs."""
    pounds = units * POUNDS_PER_UNIT
    return next((cost for limit, cost in SHIPPING_UP_TO_POUNDS.items() if pounds <= limit), SHIPPING_ABOVE)


def charge(token: str, amount: float, *, idempotency_key: str) -> str:
    """Ask the bank for money and return the payment's id; asked twice with one key, it charges once."""
    if token in REFUSED_TOKENS:
        raise PermanentError(REFUSED_TOKENS[token], error_code="PAYMENT_DECLINED")
    if token in UNREACHABLE_TOKENS:
        raise RetryableError("the bank does not answer", retry_after=BANK_BACK_AFTER_SECONDS)
    return f"pay_{sha256(idempotency_key.encode()).hexdigest()[:12]}"


def validated_items(context: StepContext) -> list[dict[str, Any]]:
    """Return the priced lines of the cart."""
    items: list[dict[str, Any]] = context.get_dependency_field("validate_cart", "validated_items")
    require(items, "MISSING_VALIDATED_ITEMS", "validate_cart left no items")
    return items
