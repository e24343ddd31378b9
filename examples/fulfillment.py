"""Handlers of an order's way to the customer: async classes that read the context and say themselves how it went.

`self.success` adds notes that are stored beside the result; `self.failure` says whether another attempt makes sense.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from pydantic import BaseModel, Field

from tasker.worker import StepContext, StepHandler, StepHandlerResult


class Customer(BaseModel):
    id: int
    name: str
    email: str


class Item(BaseModel):
    sku: str
    quantity: int = Field(ge=1)
    price: float = Field(ge=0)


class Payment(BaseModel):
    method: str
    token: str


class Address(BaseModel):
    zip: str


class Shipping(BaseModel):
    method: Literal["standard", "express"]
    address: Address


class Order(BaseModel):
    """The task's context."""

    customer: Customer
    items: list[Item] = Field(min_length=1)
    payment: Payment
    shipping: Shipping

    @property
    def total(self) -> float:
        return round(sum(item.price * item.quantity for item in self.items), 2)


STOCK: Final = {"WIDGET-001": 100, "GADGET-002": 25, "RARITY-003": 0}
RESTOCKED_AFTER_SECONDS: Final = 60
DECLINED_TOKENS: Final = ("tok_declined",)
DAYS_ON_THE_WAY: Final = {"standard": 5, "express": 1}


class ValidateOrder(StepHandler):
    """Looks at the order once, for all steps that follow. pydantic's refusal fails the step for good."""

    async def call(self, context: StepContext) -> StepHandlerResult:
        order = order_of(context)
        return self.success(
            {
                "customer_id": order.customer.id,
                "item_count": sum(item.quantity for item in order.items),
                "order_total": order.total,
            }
        )


class Reserve(StepHandler):
    """Sets the items aside, all of them or none."""

    async def call(self, context: StepContext) -> StepHandlerResult:
        items = order_of(context).items
        for item in items:
            if item.sku not in STOCK:
                return self.failure(
                    f"there is no article {item.sku}", retryable=False, error_code="UNKNOWN_ARTICLE"
                )
            if item.quantity > STOCK[item.sku]:
                return self.failure(
                    f"{item.quantity} of {item.sku} wanted, {STOCK[item.sku]} in stock",
                    error_code="INSUFFICIENT_STOCK",
                    retry_after=RESTOCKED_AFTER_SECONDS,
                )
        return self.success(
            {
                "reservation_id": f"RES-{suffix(context)}",
                "reserved": {item.sku: item.quantity for item in items},
            }
        )


class Pay(StepHandler):
    """Takes the money for what is reserved."""

    async def call(self, context: StepContext) -> StepHandlerResult:
        payment = order_of(context).payment
        if payment.token in DECLINED_TOKENS:
            return self.failure(
                "the bank declined the payment", retryable=False, error_code="PAYMENT_DECLINED"
            )
        return self.success(
            {
                "payment_id": f"PAY-{suffix(context)}",
                "amount": context.get_dependency_field("validate_order", "order_total"),
                "reservation_id": context.get_dependency_field("reserve_inventory", "reservation_id"),
            },
            metadata={"method": payment.method},
        )


class Ship(StepHandler):
    """Hands the parcel over; what is in it and that it is paid come from the steps before."""

    async def call(self, context: StepContext) -> StepHandlerResult:
        shipping = order_of(context).shipping
        days = DAYS_ON_THE_WAY[shipping.method]
        return self.success(
            {
                "tracking_number": f"TRK-{suffix(context)}",
                "contents": context.get_dependency_field("reserve_inventory", "reserved"),
                "payment_id": context.get_dependency_field("process_payment", "payment_id"),
                "zip": shipping.address.zip,
                "expected_on": (datetime.now(UTC) + timedelta(days=days)).date(),
            }
        )


def order_of(context: StepContext) -> Order:
    """Return the order that the task was created with."""
    return Order.model_validate(context.input_data)


def suffix(context: StepContext) -> str:
    """Return a text that is the same in every attempt at the step: a repetition makes nothing twice."""
    return context.step_uuid.hex[-8:].upper()
