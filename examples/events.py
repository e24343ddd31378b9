"""Handlers of an order whose steps have something to tell the rest of the company.

What each step publishes, and after which outcome, is declared in the template. The result of a step is what the event
carries, so a result has to hold what the event's schema asks for.
"""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BaseModel

from tasker.worker import BusinessLogicError, Dep, Inputs, StepContext, step_handler

#: What is in the parcel; this shop sells one thing.
ITEMS: Final = ["WIDGET-001"]


class Order(BaseModel):
    order_id: str
    customer_id: str
    amount: float = 0
    simulate_failure: bool = False


class ValidatedOrder(BaseModel):
    order_id: str
    validation_timestamp: datetime


class Payment(BaseModel):
    transaction_id: str
    amount: float
    payment_method: str


class StockChange(BaseModel):
    order_id: str
    items: list[str]
    success: bool


class Notice(BaseModel):
    recipient: str
    text: str


TheOrder = Annotated[Order, Inputs()]


@step_handler("examples.events.validate_order")
async def validate_order(order: TheOrder) -> ValidatedOrder:
    return ValidatedOrder(order_id=order.order_id, validation_timestamp=datetime.now(UTC))


@step_handler("examples.events.process_payment")
async def process_payment(order: TheOrder, context: StepContext) -> Payment:
    """Takes the money, or fails for good when the order says so: then `payment.failed` is the event."""
    if order.simulate_failure:
        raise BusinessLogicError("the bank refused the payment", error_code="PAYMENT_REFUSED")
    return Payment(
        transaction_id=f"txn_{context.idempotency_key[-12:]}",
        amount=order.amount,
        payment_method="credit_card",
    )


@step_handler("examples.events.update_inventory")
async def update_inventory(order: TheOrder) -> StockChange:
    return StockChange(order_id=order.order_id, items=ITEMS, success=True)


@step_handler("examples.events.send_notification")
async def send_notification(order: TheOrder, payment: Annotated[Payment, Dep("process_payment")]) -> Notice:
    return Notice(recipient=order.customer_id, text=f"We received {payment.amount:.2f} for {order.order_id}.")
