"""The handlers of the order with events: what they return is what their events promise."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
import yaml

from tasker.testing import make_context, run_handler
from tasker.worker import load_handlers
from tests.scenarios.scenarios import EXAMPLES

TEMPLATE = yaml.safe_load((EXAMPLES / "domain_events" / "domain_events.yaml").read_text())
ORDER = {"order_id": "ORD-1", "customer_id": "CUST-1", "amount": 9.5}
PAID = {"process_payment": {"transaction_id": "t", "amount": 9.5, "payment_method": "card"}}


@pytest.mark.parametrize("step", TEMPLATE["steps"], ids=lambda step: step["name"])
async def test_a_result_holds_what_its_events_ask_for(step: dict[str, Any]) -> None:
    handler = load_handlers(EXAMPLES).resolve(step["handler"]["callable"])
    ran = await run_handler(handler, make_context(inputs=ORDER, dependencies=PAID))
    assert ran.success
    for event in step["publishes_events"]:
        if event["condition"] in ("success", "always"):
            jsonschema_rs.validate(event["schema"], ran.result)
            assert set(event["schema"].get("required", [])) <= ran.result.keys()


async def test_a_payment_fails_for_good_when_the_order_says_so() -> None:
    handler = load_handlers(EXAMPLES).resolve("examples.events.process_payment")
    ran = await run_handler(handler, make_context(inputs=ORDER | {"simulate_failure": True}))
    assert ran.error is not None
    assert (ran.metadata.error_code, ran.error.retryable) == ("PAYMENT_REFUSED", False)
