"""Handlers of the payments team: a refund, from the question whether it may be to the mail that says it was made.

Amounts are whole cents. The steps know nothing of who asked for the refund; customer_success.py is one that does.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel

from examples.troubles import Trouble, meet
from tasker.worker import Dep, Inputs, StepContext, step_handler

#: What the bank says of a payment before any money moves.
INELIGIBLE: Final = {
    "pay_test_ineligible": Trouble("PAYMENT_INELIGIBLE", "this payment cannot be refunded"),
    "pay_test_processing": Trouble("PAYMENT_PROCESSING", "the payment is still being made", passes=True),
}
#: What can stop the money on its way back.
GATEWAY: Final = {
    "pay_test_gateway_error": Trouble("GATEWAY_REFUND_FAILED", "the gateway refused the refund"),
    "pay_test_gateway_timeout": Trouble("GATEWAY_TIMEOUT", "the gateway did not answer", passes=True),
    "pay_test_rate_limit": Trouble("RATE_LIMITED", "the gateway is asked too often", passes=True),
}
RECORDS: Final = {
    "pay_test_record_lock": Trouble("RECORD_LOCKED", "somebody else edits the payment", passes=True),
}
MAIL: Final = {
    "@test_bounce": Trouble("EMAIL_BOUNCED", "the mail came back"),
    "@test_invalid": Trouble("INVALID_EMAIL", "this is no address"),
    "@test_rate_limit": Trouble("RATE_LIMITED", "the mail server wants a pause", passes=True),
}


class Refund(BaseModel):
    """What the task was created with."""

    payment_id: str
    refund_amount: int
    refund_reason: Literal["customer_request", "fraud", "system_error", "chargeback"] = "customer_request"
    partial_refund: bool = False
    customer_email: str | None = None


class Eligibility(BaseModel):
    payment_id: str
    refund_amount: int
    status: Literal["eligible"] = "eligible"


class GatewayRefund(BaseModel):
    refund_id: str
    payment_id: str
    amount_refunded: int
    refunded_at: datetime


class PaymentRecord(BaseModel):
    payment_id: str
    refund_id: str
    payment_status: Literal["refunded", "partially_refunded"]
    history: list[str]


class Notification(BaseModel):
    sent_to: str | None
    refund_id: str


TheRefund = Annotated[Refund, Inputs()]
FromGateway = Annotated[GatewayRefund, Dep("process_gateway_refund")]


@step_handler("examples.payments.validate_eligibility")
async def validate_eligibility(refund: TheRefund) -> Eligibility:
    """Asks before the money moves: a step that only reads can be repeated at will."""
    meet(INELIGIBLE, refund.payment_id)
    return Eligibility(payment_id=refund.payment_id, refund_amount=refund.refund_amount)


@step_handler("examples.payments.refund_at_gateway")
async def refund_at_gateway(
    eligible: Annotated[Eligibility, Dep("validate_payment_eligibility")], context: StepContext
) -> GatewayRefund:
    """Moves the money. The key makes a second attempt find the first one's refund instead of paying twice."""
    meet(GATEWAY, eligible.payment_id)
    return GatewayRefund(
        refund_id=await send_money_back(eligible, idempotency_key=context.idempotency_key),
        payment_id=eligible.payment_id,
        amount_refunded=eligible.refund_amount,
        refunded_at=datetime.now(UTC),
    )


@step_handler("examples.payments.update_records")
async def update_records(refund: TheRefund, refunded: FromGateway) -> PaymentRecord:
    meet(RECORDS, refund.payment_id)
    return PaymentRecord(
        payment_id=refunded.payment_id,
        refund_id=refunded.refund_id,
        payment_status="partially_refunded" if refund.partial_refund else "refunded",
        history=["captured", f"{refund.refund_reason}: {refunded.amount_refunded} cents sent back"],
    )


@step_handler("examples.payments.notify")
async def notify(refund: TheRefund, refunded: FromGateway) -> Notification:
    """Writes to the customer, if there is an address; the refund is made either way."""
    meet(MAIL, refund.customer_email or "")
    return Notification(sent_to=refund.customer_email, refund_id=refunded.refund_id)


# A stand-in for the gateway


async def send_money_back(refund: Eligibility, *, idempotency_key: str) -> str:
    return f"rfnd_{idempotency_key[-12:]}"
