"""Handlers as classes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tasker.worker import (
    HandlerDefinitionError,
    HandlerRegistry,
    StepContext,
    StepHandler,
    StepHandlerResult,
)
from tests.unit.handlers.conftest import NewContext, Run


class Charge(StepHandler):
    handler_name = "charge"
    handler_version = "2.0.0"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.success({"charged": True}, {"gateway": "test"})

    def decline(self, context: StepContext) -> StepHandlerResult:
        return self.failure("declined", "card_declined", False, {"card": "visa"}, "E1", retry_after=5)


class Nameless(Charge):
    handler_name = ""


def test_a_class_says_what_it_is() -> None:
    charge = Charge()
    assert (charge.name, charge.version, charge.capabilities) == ("charge", "2.0.0", ["process"])
    assert charge.config_schema() is None
    assert Nameless().name == "Nameless"


def test_the_helpers_make_results(new_context: NewContext) -> None:
    charge = Charge()
    assert charge.call(new_context()).to_dict() == {
        "success": True,
        "result": {"charged": True},
        "error_message": None,
        "error_type": None,
        "error_code": None,
        "retryable": True,
        "metadata": {"gateway": "test"},
    }
    declined = charge.decline(new_context())
    assert declined.to_dict() | {"metadata": dict(declined.metadata)} == {
        "success": False,
        "result": None,
        "error_message": "declined",
        "error_type": "card_declined",
        "error_code": "E1",
        "retryable": False,
        "metadata": {"card": "visa"},
    }
    assert declined.retry_after == 5
    assert charge.failure("why").retryable


class Configured(StepHandler):
    handler_name = "configured"
    asked = 0

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def config_schema(self) -> dict[str, Any] | None:
        type(self).asked += 1
        return {
            "type": "object",
            "required": ["currency"],
            "properties": {
                "currency": {"type": "string"},
                "limits": {"additionalProperties": {"type": "integer"}},
            },
        }

    def call(self, context: StepContext) -> Any:
        return self.config


async def test_a_configuration_is_checked_before_anything_runs(run: Run) -> None:
    fine = {"currency": "EUR", "limits": {"day": 3}}
    assert (await run(Configured, initialization=fine)).result == fine
    result = await run(Configured, initialization={"limits": {"day": "many"}})
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("validation_error", False)
    assert [one["field"] for one in result.error.context["fields"]] == ["config", "config.limits.day"]
    assert (
        "handler 'configured' cannot run: config: \"currency\" is a required property" in result.error.message
    )


async def test_a_schema_is_asked_for_once(new_context: NewContext) -> None:
    registry = HandlerRegistry()
    registry.register(Configured)
    handler = registry.resolve("configured")
    before = Configured.asked
    for _ in range(3):
        handler.call(new_context(initialization={"currency": "EUR"}))
    assert Configured.asked == before + 1


async def test_a_config_schema_that_is_none_is_a_permanent_error(run: Run) -> None:
    class Wrong(Charge):
        def config_schema(self) -> dict[str, Any]:
            return {"type": "currency"}

    result = await run(Wrong)
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("permanent_error", False)
    assert "config_schema is no JSON Schema" in result.error.message


async def test_what_a_constructor_raises_is_the_steps_own_failure(run: Run) -> None:
    class Fragile(Charge):
        def __init__(self, config: dict[str, Any]) -> None:
            self.gateway = config["gateway"]

    result = await run(Fragile)
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("permanent_error", False)
    assert result.error.message == "KeyError: 'gateway'"
    assert any("__init__" in line for line in result.error.backtrace)


def test_a_method_that_yields_is_refused() -> None:
    class Yields(StepHandler):
        def call(self, context: StepContext) -> Iterator[int]:
            yield 1

    class YieldsLater(StepHandler):
        async def call(self, context: StepContext) -> AsyncIterator[int]:
            yield 1

    for wrong in (Yields, YieldsLater):
        with pytest.raises(HandlerDefinitionError, match="is a generator; return the result"):
            HandlerRegistry().register(wrong)
