"""Every way a step can end, and the row that a real worker leaves of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from tasker.worker import (
    Dep,
    HandlerRegistry,
    Inputs,
    PermanentError,
    StepContext,
    StepHandler,
    batch_analyzer,
    checkpoint_yield,
    decision_handler,
    step_handler,
)
from tests.integration.runtime.conftest import StartWorker
from tests.integration.runtime.stored import STYLES, Stored, recorded
from tests.support.engine import Engine, graph
from tests.support.waiting import until


class Till(StepHandler):
    """The class whose methods templates name."""

    async def call(self, context: StepContext) -> Any:
        return {}

    async def _count(self, context: StepContext) -> Any:
        return {}


class Picky(StepHandler):
    """A class that says what its configuration must look like."""

    def config_schema(self) -> dict[str, Any]:
        return {"type": "object", "required": ["currency"], "properties": {"rate": {"type": "number"}}}

    async def call(self, context: StepContext) -> Any:
        return {}


@step_handler("wants_a_number")
async def wants_a_number(number: Annotated[int, Inputs("number")]) -> int:
    return number


@step_handler("wants_a_list")
async def wants_a_list(found: Annotated[list[int], Dep("fine")]) -> int:
    return len(found)


@decision_handler("undecided")
async def undecided() -> Any:
    return None


@batch_analyzer("unplanned")
def unplanned() -> Any:
    return 7


async def overstays(context: StepContext) -> Any:
    await asyncio.Event().wait()


def refuses(context: StepContext) -> Any:
    raise PermanentError("the card is expired", error_code="EXPIRED", metadata={"card": "visa"})


def breaks(context: StepContext) -> Any:
    raise RuntimeError("by chance")


def leaves(context: StepContext) -> Any:
    raise SystemExit(3)


@dataclass(frozen=True)
class Row:
    """A row of the table: a step's handler in the template, and what its result must say."""

    handler: dict[str, Any]
    error_type: str
    retryable: bool
    status: str
    says: str
    more: Callable[[Stored], object] = lambda _: True
    keys: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "unknown": Row(
        {"callable": "shop.nobody"}, "handler_not_found", False, "error", r"'shop.nobody'.*known: .*breaks"
    ),
    "unknown_resolver": Row(
        {"callable": "breaks", "resolver": "oracle"},
        "handler_not_found",
        False,
        "error",
        r"resolver 'oracle'.*known: explicit_mapping, class_lookup",
    ),
    "no_method": Row(
        {"callable": "till", "method": "refund"}, "handler_method_not_found", False, "error", r"'refund'"
    ),
    "private_method": Row(
        {"callable": "till", "method": "_count"}, "handler_method_not_found", False, "error", r"private"
    ),
    "bad_input": Row(
        {"callable": "wants_a_number"},
        "validation_error",
        False,
        "failed",
        r"inputs\.number: .*integer",
        lambda row: row.error["context"]["fields"][0]["field"] == "inputs.number",
    ),
    "bad_dependency": Row(
        {"callable": "wants_a_list"},
        "validation_error",
        False,
        "failed",
        r"dependencies\.fine",
        keys={"dependencies": ["fine"]},
    ),
    "bad_config": Row(
        {"callable": "picky", "initialization": {"rate": "high"}},
        "validation_error",
        False,
        "failed",
        r"\"currency\" is a required property.*config\.rate",
    ),
    "raised": Row(
        {"callable": "breaks"},
        "handler_error",
        True,
        "failed",
        r"by chance",
        lambda row: row.metadata["context"]["exception_class"] == "RuntimeError",
    ),
    "refused": Row(
        {"callable": "refuses"},
        "permanent_error",
        False,
        "failed",
        r"the card is expired",
        lambda row: row.metadata["error_code"] == "EXPIRED" and row.metadata["context"]["card"] == "visa",
    ),
    "slow": Row(
        {"callable": "overstays"},
        "handler_timeout",
        True,
        "error",
        r"did not finish within 1 s \(attempt 1 of 3\)",
        keys={"timeout_seconds": 1},
    ),
    "escaped": Row({"callable": "leaves"}, "handler_panic", False, "error", r"SystemExit escaped"),
    "unstorable": Row(
        {"callable": "returns_an_object"},
        "result_serialization_error",
        False,
        "error",
        r"cannot be stored",
        lambda row: row.metadata["custom"] == {"original_success": True} and len(row.error["message"]) <= 500,
    ),
    "lost_its_place": Row(
        {"callable": "yields_nul"},
        "checkpoint_error",
        True,
        "error",
        r"cursor holds a NUL character",
    ),
    "undecided": Row(
        {"callable": "undecided"},
        "decision_outcome_invalid",
        False,
        "failed",
        r"'undecided' returned NoneType; return Decision\.route",
        keys={"type": "decision", "dependencies": ["fine"]},
    ),
    "unplanned": Row(
        {"callable": "unplanned"},
        "batch_outcome_invalid",
        False,
        "failed",
        r"'unplanned' returned int; return BatchConfig",
    ),
}

#: Rows whose handlers are written once for each style.
BODIES = {
    "breaks": breaks,
    "refuses": refuses,
    "leaves": leaves,
    "returns_an_object": lambda _: {"what": object()},
    "yields_nul": lambda _: checkpoint_yield("a\x00b", 1),
}
FAILURE_KEYS = {"message", "error_type", "backtrace", "retryable", "status_code", "context"}
METADATA_KEYS = {
    "execution_time_ms", "handler_version", "retryable", "started_at", "completed_at", "worker_id",
    "worker_hostname", "custom", "error_code", "error_type", "context",
}  # fmt: skip


def registry_in(style: str) -> HandlerRegistry:
    """Return handlers for all rows, written in a style."""
    registry = HandlerRegistry()
    for name, body in BODIES.items():
        registry.register(STYLES[style](body), name=name)
    registry.register(Till, name="till")
    registry.register(Picky, name="picky")
    registry.register(wants_a_number)
    registry.register(wants_a_list)
    registry.register(undecided)
    registry.register(unplanned)
    registry.register(overstays, name="overstays")
    registry.register(STYLES[style](lambda _: {"fine": True}), name="fine")
    return registry


@pytest.mark.parametrize("style", STYLES)
async def test_each_result_is_stored_as_the_contract_says(
    engine: Engine, start_worker: StartWorker, style: str
) -> None:
    document = graph({"fine": []}) | {
        "steps": [
            {"name": "fine", "handler": "fine"},
            *({"name": name, "handler": row.handler} | row.keys for name, row in ROWS.items()),
        ]
    }
    task = await engine.create(document, {"number": "seven"})
    await start_worker(document, registry=registry_in(style), refusal_limit_seconds=0)
    found = await recorded(engine, task, results=len(ROWS) + 1)
    assert found.pop("fine").success
    for name, row in ROWS.items():
        stored = found[name]
        assert (stored.error["error_type"], stored.error["retryable"]) == (row.error_type, row.retryable), (
            name
        )
        assert re.search(row.says, stored.error["message"]), stored.error["message"]
        assert (stored.success, stored.status, stored.result) == (False, row.status, {}), name
        assert stored.state == ("waiting_for_retry" if row.retryable else "error"), name
        assert stored.attempt == 1
        # What is said twice agrees, and no key of the contract is left out.
        assert stored.metadata["retryable"] is row.retryable
        assert stored.metadata["error_type"] == row.error_type
        assert set(stored.error) == FAILURE_KEYS
        assert set(stored.metadata) == METADATA_KEYS
        assert row.more(stored), (stored.error, stored.metadata)


async def test_a_closing_thread_pool_gives_the_step_back(engine: Engine, start_worker: StartWorker) -> None:
    def work(context: StepContext) -> Any:
        raise AssertionError("it has no thread to run in")

    registry = HandlerRegistry()
    registry.register(work, name="work")
    document = graph({"s1": []})
    worker = await start_worker(document, registry=registry)
    worker._runner.close()
    task = await engine.create(document)
    stored = (await recorded(engine, task, results=1))["s1"]
    assert (stored.error["error_type"], stored.error["retryable"]) == ("semaphore_acquisition_failed", True)
    assert (stored.status, stored.state) == ("error", "waiting_for_retry")


async def test_no_end_of_a_step_takes_the_worker_down(engine: Engine, start_worker: StartWorker) -> None:
    """After everything of the table has happened to it, it still runs steps."""
    document = graph({"fine": []}) | {
        "steps": [
            {"name": "fine", "handler": "fine"},
            *(
                {"name": name, "handler": row.handler} | row.keys
                for name, row in ROWS.items()
                if name != "slow"
            ),
        ]
    }
    await engine.register(document)
    worker = await start_worker(document, registry=registry_in("sync class"), refusal_limit_seconds=0)
    for _ in range(2):
        task = await engine.create(document, {"number": None})
        found = await recorded(engine, task, results=len(ROWS))
        assert found["fine"].state == "complete"
    assert worker.is_claiming
    await until(lambda: worker.slots_in_use == 0)
