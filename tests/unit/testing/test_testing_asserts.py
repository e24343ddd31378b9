"""Asserts about results: each holds for what it names, and tells otherwise what happened instead."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tasker.testing import (
    assert_permanent,
    assert_retryable,
    assert_routes,
    assert_skips,
    assert_succeeded,
    run_handler,
)
from tasker.worker import Decision, PermanentError, RetryableError, decision_handler, step_handler


@step_handler("works")
def works() -> dict[str, int]:
    return {"paid": 3}


@step_handler("declines")
def declines() -> None:
    raise PermanentError("the card is declined")


@step_handler("busy")
async def busy() -> None:
    raise RetryableError("the gateway is busy", retry_after=30)


@decision_handler("routes")
async def routes() -> Decision:
    return Decision.route(["ship", "mail"])


@decision_handler("skips")
async def skips() -> Decision:
    return Decision.skip("nothing to ship")


async def test_each_holds_for_what_it_names() -> None:
    assert assert_succeeded(await run_handler(works)) == {"paid": 3}
    error = assert_permanent(await run_handler(declines), "permanent_error", message="declined")
    assert error.message == "the card is declined"
    error = assert_retryable(await run_handler(busy), "retryable_error", message="busy", retry_after=30)
    assert error.retryable
    assert_routes(await run_handler(routes), "mail", "ship")
    assert_skips(await run_handler(skips))


@pytest.mark.parametrize(
    ("statement", "handler", "told"),
    [
        (lambda ran: assert_succeeded(ran), declines, "permanent_error (permanent): the card is declined"),
        (lambda ran: assert_permanent(ran), works, "it returned {'paid': 3}"),
        (lambda ran: assert_permanent(ran), busy, "not permanent: retryable_error (retryable)"),
        (lambda ran: assert_permanent(ran, "validation_error"), declines, "not of type 'validation_error'"),
        (lambda ran: assert_permanent(ran, message="expired"), declines, "does not say 'expired'"),
        (lambda ran: assert_retryable(ran), works, "it returned {'paid': 3}"),
        (lambda ran: assert_retryable(ran), declines, "not retryable: permanent_error (permanent)"),
        (lambda ran: assert_retryable(ran, "timeout"), busy, "not of type 'timeout'"),
        (lambda ran: assert_retryable(ran, retry_after=60), busy, "asked to wait 30.0 s, not 60 s"),
        (lambda ran: assert_routes(ran, "ship"), routes, "it chose ['mail', 'ship'], not ['ship']"),
        (lambda ran: assert_routes(ran, "ship"), skips, "it chose no step, not ['ship']"),
        (lambda ran: assert_routes(ran, "ship"), works, "it decided nothing: it returned {'paid': 3}"),
        (lambda ran: assert_routes(ran, "ship"), declines, "it did not succeed"),
        (lambda ran: assert_skips(ran), routes, "it chose ['ship', 'mail'], not none"),
    ],
)
async def test_each_tells_what_happened_instead(statement: Any, handler: Any, told: str) -> None:
    ran = await run_handler(handler)
    with pytest.raises(AssertionError, match=re.escape(told)):
        statement(ran)


async def test_a_traceback_comes_with_a_failure_that_nobody_expected() -> None:
    ran = await run_handler(declines)
    with pytest.raises(AssertionError, match=r"(?s)Traceback.*in declines"):
        assert_succeeded(ran)
