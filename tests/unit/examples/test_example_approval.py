"""The handlers of the approvals."""

from __future__ import annotations

from typing import Any

import pytest

from examples import approval
from examples.approval import Request, Risk
from tasker.testing import make_context, run_handler
from tasker.worker import Decision
from tests.unit.examples.contexts import context

REQUEST = {"amount": 3000, "requester": "sam", "purpose": "equipment"}


def request(**more: Any) -> Request:
    return Request.model_validate(REQUEST | more)


def branches(decision: Decision) -> set[str]:
    return set(decision.step_names)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"amount": -5}, "amount"),
        ({"amount": 0}, "amount"),
        ({"requester": ""}, "requester"),
        ({"purpose": "  "}, "purpose"),
        ({"risk_score": 101}, "risk_score"),
    ],
)
async def test_a_request_that_is_not_in_order_is_refused_for_good(wrong: dict[str, Any], field: str) -> None:
    ran = await run_handler(approval.validate_request, make_context(inputs=REQUEST | wrong))
    assert ran.error is not None
    assert (ran.error.error_type, ran.error.retryable) == ("validation_error", False)
    assert field in ran.error.message


async def test_everything_wrong_is_named_at_once() -> None:
    ran = await run_handler(approval.validate_request, make_context(inputs={"amount": -1}))
    assert ran.error is not None
    assert all(field in ran.error.message for field in ("amount", "requester", "purpose"))


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (999.99, {"auto_approve"}),
        (1000, {"manager_approval"}),
        (4999.99, {"manager_approval"}),
        (5000, {"manager_approval", "finance_review"}),
    ],
)
def test_the_amount_decides(amount: float, expected: set[str]) -> None:
    assert branches(approval.route_by_amount(request(amount=amount), 1000, 5000)) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"emergency": True, "amount": 9999.99, "risk_score": 99}, {"emergency_approval"}),
        (
            {"emergency": True, "amount": 10_000, "risk_score": 0},
            {"senior_manager_approval", "compliance_routing"},
        ),
        ({"amount": 4999.99, "risk_score": 29}, {"standard_manager_approval"}),
        ({"amount": 5000, "risk_score": 29}, {"senior_manager_approval", "compliance_routing"}),
        ({"amount": 1, "risk_score": 30}, {"senior_manager_approval", "compliance_routing"}),
    ],
)
def test_urgency_finds_the_shortest_way(facts: dict[str, Any], expected: set[str]) -> None:
    asked = request(**facts)
    assert branches(approval.route_by_urgency(asked, approval.assess_risk(asked))) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"amount": 49_999.99, "risk_score": 69}, set()),
        ({"amount": 50_000}, {"legal_review"}),
        ({"risk_score": 70}, {"fraud_investigation"}),
        ({"jurisdiction": "EU"}, {"jurisdictional_check"}),
        ({"jurisdiction": "UK"}, {"jurisdictional_check"}),
        ({"jurisdiction": "APAC"}, {"jurisdictional_check"}),
        (
            {"amount": 75_000, "risk_score": 80, "jurisdiction": "EU"},
            {"legal_review", "fraud_investigation", "jurisdictional_check"},
        ),
    ],
)
def test_everybody_with_a_say_is_asked(facts: dict[str, Any], expected: set[str]) -> None:
    asked = request(**facts)
    decision = approval.route_by_rules(asked, Risk(risk_score=asked.risk_score))
    assert branches(decision) == expected
    assert (decision.reason is None) == bool(expected)


def approved(kind: str, *, yes: bool = True) -> dict[str, Any]:
    return {"approved": yes, "approval_type": kind, "approver": "somebody"}


def test_only_branches_that_exist_count() -> None:
    routed = {"decision_point_outcome": {"type": "create_steps"}}
    declared = ("routing_decision", "auto_approve", "manager_approval", "finance_review")
    final = approval.finalize(
        context(
            {}, declared, routing_decision=routed,
            finance_review=approved("finance"), manager_approval=approved("manager"),
        )
    )  # fmt: skip
    assert (final.final_status, final.approval_count) == ("approved", 2)
    assert [one.approval_type for one in final.approvals] == ["manager", "finance"]


@pytest.mark.parametrize("results", [{}, {"a": approved("auto"), "b": approved("manager", yes=False)}])
def test_nobody_or_one_no_is_a_rejection(results: dict[str, Any]) -> None:
    assert approval.finalize(context({}, tuple(results), **results)).final_status == "rejected"
