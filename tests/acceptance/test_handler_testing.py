"""What a test of a handler shows is what a live worker stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from tasker.config.settings import WorkerSettings
from tasker.testing import make_context, run_handler
from tasker.worker import (
    BatchConfig,
    BatchWorkerContext,
    Config,
    Decision,
    Dep,
    HandlerMethodNotFoundError,
    HandlerRegistry,
    Inputs,
    PermanentError,
    RetryableError,
    StepContext,
    StepHandler,
    StepHandlerResult,
    batch_analyzer,
    batch_worker,
    checkpoint_yield,
    decision_handler,
    step_handler,
)
from tasker.worker.runtime.worker import Worker
from tests.integration.runtime.stored import Stored, recorded
from tests.support import services
from tests.support.engine import Engine, graph

INPUTS = {"sku": "a", "count": 2}
CONFIG = {"currency": "EUR"}


class Price(BaseModel):
    total: Decimal


@step_handler("price", version="1.2.0")
async def price(sku: Annotated[str, Inputs("sku")], count: Annotated[int, Inputs("count")]) -> Price:
    return Price(total=Decimal("1.50") * count)


@step_handler("charge")
def charge(
    cost: Annotated[Price, Dep("price")], config: Annotated[dict[str, Any], Config()], context: StepContext
) -> Any:
    return StepHandlerResult.success({"paid": cost, "config": config}, {"attempt": context.attempt})


@step_handler("misfit")
async def misfit(sku: Annotated[int, Inputs("sku")], ghost: Annotated[Price, Dep("ghost")]) -> None: ...


@step_handler("declines")
def declines() -> None:
    raise PermanentError("no", error_code="E1", metadata={"card": "visa"}, context={"left": 0})


@step_handler("busy")
async def busy() -> None:
    raise RetryableError("later", retry_after=30)


@step_handler("breaks")
def breaks() -> int:
    return int("many")


@step_handler("unstorable")
async def unstorable() -> object:
    return {"o": object()}


@step_handler("leaves")
def leaves() -> None:
    raise SystemExit(3)


@step_handler("overstays")
async def overstays() -> None:
    await asyncio.Event().wait()


@decision_handler("routes")
async def routes(count: Annotated[int, Inputs("count")]) -> Decision:
    return Decision.route(["pack"], count=count)


@batch_analyzer("plans", worker_template="loads")
def plans(count: Annotated[int, Inputs("count")]) -> BatchConfig:
    return BatchConfig(count, 1)


@batch_worker("pauses", version="1.3.0")
def pauses(batch_context: BatchWorkerContext | None, context: StepContext) -> Any:
    """Adds up what its checkpoints were, three times, and fails then."""
    seen = [*(context.accumulated_results or []), context.checkpoint_cursor]
    if len(seen) <= 3:
        return checkpoint_yield({"page": len(seen)}, len(seen), seen)
    if batch_context is None:
        raise PermanentError("no share", metadata={"seen": seen})
    return seen


@step_handler("lost_its_place")
async def lost_its_place() -> StepHandlerResult:
    return checkpoint_yield(float("nan"), 1)


class Till(StepHandler):
    handler_name = "till"
    handler_version = "3.0.0"

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.failure("closed", "till_closed", metadata=self.config, retry_after=5)

    async def refund(self, context: StepContext) -> Any:
        return {"key": len(context.idempotency_key), "seen": context.get_dependency_result("price")}


FUNCTIONS = (
    price, charge, misfit, declines, busy, breaks, unstorable, leaves, overstays, routes, plans, pauses, lost_its_place,
)  # fmt: skip
AFTER_PRICE = ("charge", "refund")


@pytest.fixture
async def lived(engine: Engine, database_url: str, tmp_path: Path) -> AsyncIterator[dict[str, Stored]]:
    """Every handler as a live worker stored it."""
    registry = HandlerRegistry()
    for handler in (*FUNCTIONS, Till):
        registry.register(handler)
    names = [name for name in registry.callables() if name != "till"]
    handlers: dict[str, dict[str, Any]] = {name: {"callable": name} for name in names}
    handlers |= {"till": {"callable": "till"}, "refund": {"callable": "till", "method": "refund"}}
    document = graph({}) | {
        "steps": [
            {
                "name": name,
                "handler": handler | {"initialization": CONFIG},
                "dependencies": ["price"] if name in AFTER_PRICE else [],
            }
            | ({"timeout_seconds": 1} if name == "overstays" else {})
            for name, handler in handlers.items()
        ]
    }
    settings = WorkerSettings.load(
        database_url=database_url, template_path=services.write_templates(tmp_path / "templates", document)
    )
    worker = Worker(settings, registry)
    task = await engine.create(document, INPUTS)
    await worker.start()
    try:
        yield await recorded(engine, task, results=len(handlers))
    finally:
        await worker.stop()


def but_for_time_and_place(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata without what differs from run to run: instants, durations, and who ran it."""
    varying = {"started_at", "completed_at", "execution_time_ms", "worker_id", "worker_hostname"}
    assert varying <= set(metadata)
    return {key: value for key, value in metadata.items() if key not in varying}


async def test_run_handler_returns_what_a_live_worker_stores(lived: dict[str, Stored]) -> None:
    runs: dict[str, Any] = {handler.__name__: handler for handler in FUNCTIONS} | {
        "till": Till,
        "refund": Till,
    }
    assert set(runs) == set(lived)
    priced = await run_handler(price, make_context(inputs=INPUTS))
    for name, handler in runs.items():
        context = make_context(
            inputs=INPUTS,
            config=CONFIG,
            dependencies={"price": priced.result} if name in AFTER_PRICE else {},
            step_name=name,
        )
        tested = await run_handler(
            handler,
            context,
            method="refund" if name == "refund" else "call",
            timeout_seconds=1 if name == "overstays" else 30,
        )
        shape, stored = tested.to_json(), lived[name]
        assert shape["success"] is stored.success, name
        assert (shape["status"], shape["result"]) == (stored.status, stored.result), name
        assert shape["error"] == stored.error, name
        assert shape["orchestration_metadata"] == stored.orchestration, name
        assert but_for_time_and_place(shape["metadata"]) == but_for_time_and_place(stored.metadata), name
        assert shape["step_uuid"] == str(context.step_uuid)
    assert {row.success for row in lived.values()} == {True, False}


async def test_a_context_made_by_hand_is_like_a_real_one() -> None:
    task, step = UUID(int=1), UUID(int=2)
    context = make_context(
        inputs={"at": Decimal("1.50")},
        dependencies={
            "model": Price(total=Decimal(3)),
            "number": 7,
            "nothing": None,
            "object": {"result": 1},
        },
        config=CONFIG,
        attempt=3,
        max_attempts=3,
        checkpoint={"cursor": 5},
        step_name="pay",
        task_uuid=task,
        step_uuid=step,
    )
    assert context.input_data == {"at": "1.50"}
    assert context.dependency_results == {
        "model": {"total": "3"},
        "number": {"result": 7},
        "nothing": {},
        "object": {"result": 1},
    }
    assert (context.step_config, context.step_inputs) == (CONFIG, CONFIG)
    assert (context.retry_count, context.is_last_retry(), context.checkpoint_cursor) == (2, True, 5)
    assert (context.step_name, context.idempotency_key) == ("pay", f"{task}:{step}")
    cursor = make_context(config=CONFIG, step_inputs={"cursor": 1})
    assert (cursor.step_config, cursor.step_inputs) == (CONFIG, {"cursor": 1})
    assert make_context().task_uuid != make_context().task_uuid
    with pytest.raises(ValueError, match="object"):
        make_context(inputs={"o": object()})


async def test_what_is_wrong_with_the_test_itself_raises() -> None:
    with pytest.raises(HandlerMethodNotFoundError):
        await run_handler(Till, method="nothing")
