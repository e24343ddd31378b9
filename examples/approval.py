"""Handlers of approvals: steps that decide which steps come next, and one that joins whichever came.

Branches that a decision does not choose are never created, so there is nothing to skip and nothing to wait for.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, StringConstraints

from tasker.worker import Config, Decision, Dep, Inputs, StepContext, decision_handler, step_handler

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

#: Where the law wants to be asked first.
REGULATED: Final = ("EU", "UK", "APAC")


class Request(BaseModel):
    """Somebody wants money. What does not fit fails `validate_request` for good, with every field in the message."""

    amount: float = Field(gt=0)
    requester: Text
    purpose: Text
    emergency: bool = False
    risk_score: int = Field(0, ge=0, le=100)
    jurisdiction: str = "US"


class Risk(BaseModel):
    risk_score: int


class Approval(BaseModel):
    approved: bool
    approval_type: str
    approver: str


class FinalDecision(BaseModel):
    final_status: Literal["approved", "rejected"]
    approval_count: int
    approvals: list[Approval]


TheRequest = Annotated[Request, Dep("validate_request")]
TheRisk = Annotated[Risk, Dep("assess_risk")]


@step_handler("examples.approval.validate_request")
def validate_request(request: Annotated[Request, Inputs()]) -> Request:
    """Returns what it was given, once the model has checked it."""
    return request


@step_handler("examples.approval.assess_risk")
def assess_risk(request: TheRequest) -> Risk:
    return Risk(risk_score=request.risk_score)


@decision_handler("examples.approval.route_by_amount")
def route_by_amount(
    request: TheRequest, small: Annotated[float, Config("small")], large: Annotated[float, Config("large")]
) -> Decision:
    """Sends small amounts through, those in between to a manager, large ones to finance too."""
    if request.amount < small:
        return Decision.route(["auto_approve"], amount=request.amount)
    if request.amount < large:
        return Decision.route(["manager_approval"], amount=request.amount)
    return Decision.route(["manager_approval", "finance_review"], amount=request.amount)


@decision_handler("examples.approval.route_by_urgency")
def route_by_urgency(request: TheRequest, risk: TheRisk) -> Decision:
    """Finds the shortest way that is safe; the longest leads to a second decision."""
    facts = {"amount": request.amount, "risk_score": risk.risk_score}
    if request.emergency and request.amount < 10_000:
        return Decision.route(["emergency_approval"], **facts)
    if risk.risk_score < 30 and request.amount < 5_000:
        return Decision.route(["standard_manager_approval"], **facts)
    return Decision.route(["senior_manager_approval", "compliance_routing"], **facts)


@decision_handler("examples.approval.route_by_rules")
def route_by_rules(request: TheRequest, risk: TheRisk) -> Decision:
    """Asks everybody who has a say, or nobody."""
    has_a_say = {
        "legal_review": request.amount >= 50_000,
        "fraud_investigation": risk.risk_score >= 70,
        "jurisdictional_check": request.jurisdiction in REGULATED,
    }
    reviews = [step for step, asked in has_a_say.items() if asked]
    return Decision.route(reviews) if reviews else Decision.skip("no rule asks for a review")


@step_handler("examples.approval.approve")
def approve(
    approval_type: Annotated[str, Config("approval_type")], approver: Annotated[str, Config("approver")]
) -> Approval:
    """Is every branch: the template says in whose name. A stand-in, for these people agree to everything."""
    return Approval(approved=True, approval_type=approval_type, approver=approver)


@step_handler("examples.approval.finalize")
def finalize(context: StepContext) -> FinalDecision:
    """Joins the branches that exist. Of the dependencies in the template it sees only their results."""
    results = [context.get_dependency_result(step) or {} for step in context.dependencies]
    approvals = [Approval.model_validate(result) for result in results if "approval_type" in result]
    agreed = bool(approvals) and all(approval.approved for approval in approvals)
    return FinalDecision(
        final_status="approved" if agreed else "rejected",
        approval_count=len(approvals),
        approvals=approvals,
    )
