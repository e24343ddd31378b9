"""A claimed step yields exactly one result, whatever goes wrong around its handler."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import pytest
from pydantic import BaseModel, computed_field
from structlog.testing import capture_logs

from tasker.worker import (
    HandlerDefinition,
    HandlerRegistry,
    RegistryResolver,
    StepContext,
    checkpoint_yield,
)
from tasker.worker.runtime import running
from tests.integration.runtime.conftest import StartWorker
from tests.integration.runtime.stored import STYLES, recorded, run_to_the_end
from tests.support.engine import Engine, chain, graph
from tests.support.waiting import until, within
from tests.support.workshop import Gate, Workshop

#: Failed attempts run again at once.
RETRY = {"max_attempts": 3, "backoff": "none"}
DOCUMENT = chain(1, retry=RETRY)


class Exits(BaseModel):
    """A result that ends the process of whoever reads it."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        sys.exit(4)


@pytest.mark.parametrize("style", STYLES)
async def test_a_result_that_ends_the_process_ends_its_step_alone(
    engine: Engine, start_worker: StartWorker, style: str
) -> None:
    def body(context: StepContext) -> Any:
        return Exits() if context.step_name == "exits" else {"fine": True}

    document = graph({"exits": [], "other": []})
    registry = HandlerRegistry()
    registry.register(STYLES[style](body), name="work")
    task = await engine.create(document)
    worker = await start_worker(document, registry=registry)
    found = await recorded(engine, task, results=2)
    assert (found["exits"].state, found["exits"].error["error_type"]) == ("error", "handler_panic")
    assert found["other"].result == {"fine": True}
    assert worker.is_claiming
    await until(lambda: worker.slots_in_use == 0)


class Leaving(RegistryResolver):
    """Ends the process instead of finding a handler, once the worker has started."""

    name = "leaving"
    asked = 0

    def resolve_handler(self, definition: HandlerDefinition) -> None:
        self.asked += 1
        if self.asked > 1:
            sys.exit(5)


@pytest.mark.parametrize("fault", [MemoryError, SystemExit])
async def test_a_fault_of_the_worker_is_a_result_and_no_loss(
    engine: Engine,
    workshop: Workshop,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    fault: type[BaseException],
) -> None:
    async def broken(*_: object) -> NoReturn:
        raise fault("secret")

    monkeypatch.setattr(running, "store_checkpoint", broken)
    workshop.behaviours["s1"] = lambda _: checkpoint_yield(1, 1)
    task = await engine.create(DOCUMENT)
    worker = await start_worker(DOCUMENT)
    stored = (await recorded(engine, task, results=1))["s1"]
    assert (stored.state, stored.status) == ("waiting_for_retry", "error")
    assert (stored.error["error_type"], stored.error["retryable"]) == ("handler_error", True)
    assert stored.error["message"] == f"the worker could not finish the step: {fault.__name__}"
    await until(lambda: worker.slots_in_use == 0)
    assert len(worker._claims) == 0
    assert worker.is_claiming


async def test_a_resolver_that_ends_the_process_ends_its_step_alone(
    engine: Engine, start_worker: StartWorker
) -> None:
    document = chain(1, handler={"callable": "somewhere", "resolver": "leaving"}, retry=RETRY)
    registry = HandlerRegistry()
    registry.add_resolver(Leaving())
    registry.register(STYLES["async function"](lambda _: {}), name="somewhere")
    task = await engine.create(document)
    worker = await start_worker(document, registry=registry, refusal_limit_seconds=0)
    stored = (await recorded(engine, task, results=1))["s1"]
    assert stored.error["message"] == "the worker could not finish the step: SystemExit"
    assert worker.is_claiming


async def test_a_step_without_any_result_is_let_go(
    engine: Engine, workshop: Workshop, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is renewed no more, so the sweeper takes over."""
    gate = workshop.behaviours["s1"] = Gate()
    await engine.create(DOCUMENT)
    worker = await start_worker(DOCUMENT)
    await within(gate.entered.wait())

    def broken(*_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(worker._submitter, "put", broken)
    with capture_logs() as logs:
        gate.opened.set()
        await until(lambda: worker.slots_in_use == 0)
    assert len(worker._claims) == 0
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["step_not_finished"]


# What a handler changes in place


def pages(context: StepContext) -> Any:
    """Move the cursor, and take from everything else, in place."""
    cursor = context.checkpoint_cursor or {"page": 0}
    cursor["page"] += 1
    todo = context.input_data["todo"].pop()
    rows = context.dependency_results["s1"]["rows"].pop()
    if context.checkpoint_cursor == {"page": 3} and context.attempt == 1:
        raise ConnectionError("the line is down")
    if cursor["page"] < 5:
        return checkpoint_yield(cursor, 0)
    return {"pages": cursor["page"], "todo": todo, "rows": rows}


@pytest.mark.parametrize("style", STYLES)
async def test_a_cursor_moved_in_place_is_further_and_every_run_begins_with_the_same(
    engine: Engine, start_worker: StartWorker, style: str
) -> None:
    seen: list[tuple[int, Any]] = []

    def body(context: StepContext) -> Any:
        if context.step_name == "s1":
            return {"rows": [2]}
        cursor = context.checkpoint_cursor
        seen.append((context.attempt, cursor and cursor["page"]))
        return pages(context)

    registry = HandlerRegistry()
    registry.register(STYLES[style](body), name="work")
    document = chain(2, retry=RETRY)
    task = await engine.create(document, {"todo": [1]})
    await start_worker(document, registry=registry)
    await recorded(engine, task, results=2)
    await engine.timers.tick()
    stored = (await run_to_the_end(engine, task))["s2"]
    assert stored.result == {"pages": 5, "todo": 1, "rows": 2}
    # An attempt that begins at a stored checkpoint moves on from it in the same way.
    assert seen == [(1, None), (1, 1), (1, 2), (2, 2), (2, 3), (2, 4)]


async def test_steps_that_do_not_yield_are_given_what_came_with_the_claim(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    """Ordinary steps pay for no copy."""

    def same(context: StepContext) -> dict[str, bool]:
        (step,) = worker._claims.all().values()
        return {"same": context.input_data is step.context}

    workshop.behaviours["s1"] = same
    task = await engine.create(DOCUMENT, {"todo": [1]})
    worker = await start_worker(DOCUMENT)
    assert (await run_to_the_end(engine, task))["s1"].result == {"same": True}
