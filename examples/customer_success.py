"""Handlers of the customer success team: a ticket that ends in a refund, which another team's workflow makes.

The two teams share a name, `process_refund`, and nothing else: each has a namespace, templates and workers of its own.
This team asks for a refund the way any client does, by creating a task.
"""

import os
from datetime import timedelta
from hashlib import sha256
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BaseModel

from examples.troubles import Trouble, meet
from tasker.client import AlreadyExistsError, InvalidArgumentError, Task, TaskerClient
from tasker.worker import Dep, Inputs, PermanentError, StepContext, step_handler

#: How long to try for an answer from the orchestration service: well below the step's timeout.
PATIENCE_SECONDS: Final = 5.0

Tier = Literal["standard", "gold", "premium"]

#: What a ticket system can say of a ticket when it is read, decided or written.
REQUEST: Final = {
    "ticket_closed": Trouble("TICKET_CLOSED", "the ticket is closed"),
    "ticket_cancelled": Trouble("TICKET_CANCELLED", "the ticket was cancelled"),
    "ticket_duplicate": Trouble("TICKET_DUPLICATE", "another ticket asks for the same"),
}
APPROVAL: Final = {
    "ticket_denied": Trouble("APPROVAL_DENIED", "the manager said no"),
    "ticket_pending": Trouble("APPROVAL_PENDING", "the manager has not decided", passes=True),
}
UPDATE: Final = {
    "ticket_locked": Trouble("TICKET_LOCKED", "somebody else edits the ticket", passes=True),
    "ticket_update_error": Trouble("UPDATE_FAILED", "the ticket system made an error", passes=True),
}


class Policy(BaseModel):
    """What a tier may have back, until when, and whether somebody is asked first. Amounts are whole cents."""

    window_days: int
    requires_approval: bool
    max_amount: int


POLICIES: Final[dict[Tier, Policy]] = {
    "standard": Policy(window_days=30, requires_approval=True, max_amount=10_000),
    "gold": Policy(window_days=60, requires_approval=False, max_amount=50_000),
    "premium": Policy(window_days=90, requires_approval=False, max_amount=100_000),
}
TIER_MARKERS: Final[dict[str, Tier]] = {"vip": "premium", "premium": "premium", "gold": "gold"}


class RefundRequest(BaseModel):
    """What the task was created with."""

    ticket_id: str
    customer_id: str
    refund_amount: int
    customer_email: str
    refund_reason: str = ""
    agent_notes: str = ""
    requires_approval: bool = False


class ValidRequest(BaseModel):
    ticket_id: str
    payment_id: str
    tier: Tier
    purchase_age_days: int


class PolicyCheck(BaseModel):
    policy: Policy
    approval_needed: bool


class Approval(BaseModel):
    approved: Literal[True] = True
    auto_approved: bool
    approved_by: str


class Delegation(BaseModel):
    """Which task of which team makes the refund."""

    target_namespace: str
    target_workflow: str
    target_version: str
    delegated_task_uuid: UUID


class TicketUpdate(BaseModel):
    ticket_id: str
    new_status: Literal["resolved"]
    note: str


TheRequest = Annotated[RefundRequest, Inputs()]
Validated = Annotated[ValidRequest, Dep("validate_refund_request")]


@step_handler("examples.customer_success.validate_request")
async def validate_request(request: TheRequest) -> ValidRequest:
    """Looks the ticket up, and with it the payment that it is about."""
    meet(REQUEST, request.ticket_id)
    return ValidRequest(
        ticket_id=request.ticket_id,
        payment_id=payment_of(request.ticket_id),
        tier=tier_of(request.customer_id),
        purchase_age_days=age_of_purchase().days,
    )


@step_handler("examples.customer_success.check_policy")
async def check_policy(request: TheRequest, valid: Validated) -> PolicyCheck:
    """Holds the request against the tier's policy; an agent may ask for an approval where the policy does not."""
    policy = POLICIES[valid.tier]
    if valid.purchase_age_days > policy.window_days:
        raise PermanentError(
            f"the purchase is {valid.purchase_age_days} days old, {valid.tier} has {policy.window_days}",
            error_code="REFUND_WINDOW_EXPIRED",
        )
    if request.refund_amount > policy.max_amount:
        raise PermanentError(
            f"{request.refund_amount} cents are wanted, {valid.tier} gets at most {policy.max_amount}",
            error_code="AMOUNT_EXCEEDS_POLICY",
        )
    return PolicyCheck(policy=policy, approval_needed=policy.requires_approval or request.requires_approval)


@step_handler("examples.customer_success.manager_approval")
async def manager_approval(
    request: TheRequest, check: Annotated[PolicyCheck, Dep("check_refund_policy")]
) -> Approval:
    if not check.approval_needed:
        return Approval(auto_approved=True, approved_by="policy")
    meet(APPROVAL, request.ticket_id)
    return Approval(auto_approved=False, approved_by="manager on duty")


@step_handler("examples.customer_success.delegate_refund")
async def delegate_refund(request: TheRequest, valid: Validated, context: StepContext) -> Delegation:
    """Has the payments team's workflow make the refund, and does not wait for it.

    An attempt may be lost after the task was created. The step's uuid is the same in the next attempt, and as the
    idempotency key it leads to the task that there is, so that the customer is paid once.
    """
    async with TaskerClient(orchestration_address(), timeout_seconds=PATIENCE_SECONDS) as client:
        task = await create_refund(client, request, valid, context)
    return Delegation(
        target_namespace=task.namespace,
        target_workflow=task.name,
        target_version=task.version,
        delegated_task_uuid=task.task_uuid,
    )


async def create_refund(
    client: TaskerClient, request: RefundRequest, valid: ValidRequest, context: StepContext
) -> Task:
    """Create the payments team's task. What that team refuses stays refused; a service that is away comes back."""
    try:
        return await client.create(
            "payments",
            "process_refund",
            {
                "payment_id": valid.payment_id,
                "refund_amount": request.refund_amount,
                "refund_reason": "customer_request",
                "customer_email": request.customer_email,
                "correlation_id": str(context.correlation_id),
            },
            version="1.0.0",
            idempotency_key=str(context.step_uuid),
            parent_correlation_id=context.correlation_id,
            initiator="customer_success",
            reason=f"ticket {request.ticket_id}",
        )
    except (InvalidArgumentError, AlreadyExistsError) as error:
        raise PermanentError(f"payments refuses the refund: {error}", error_code=error.reason) from error


@step_handler("examples.customer_success.update_ticket")
async def update_ticket(
    request: TheRequest, delegation: Annotated[Delegation, Dep("execute_refund_workflow")]
) -> TicketUpdate:
    meet(UPDATE, request.ticket_id)
    return TicketUpdate(
        ticket_id=request.ticket_id,
        new_status="resolved",
        note=f"refund is task {delegation.delegated_task_uuid} of {delegation.target_namespace}",
    )


def tier_of(customer_id: str) -> Tier:
    """Return a customer's tier, which the id tells."""
    wanted = customer_id.lower()
    return next((tier for marker, tier in TIER_MARKERS.items() if marker in wanted), "standard")


def orchestration_address() -> str:
    """Return where tasks are created: the same variable and default as the command line's."""
    return os.environ.get("TASKER_ADDRESS", "127.0.0.1:9190")


# Stand-ins for the ticket system


def payment_of(ticket_id: str) -> str:
    return f"pay_{sha256(ticket_id.encode()).hexdigest()[:12]}"


def age_of_purchase() -> timedelta:
    return timedelta(days=29)
