"""Results on their way back: none is lost, whatever the database says."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from tasker.worker import HandlerRegistry, StepContext
from tests.integration.runtime.conftest import StartWorker
from tests.support import outages
from tests.support.engine import Engine, chain, graph
from tests.support.waiting import until, within
from tests.support.workshop import Gate, Workshop


async def settled(engine: Engine, *tasks: UUID) -> bool:
    """Process what was submitted; tell whether nothing more happens by itself."""
    await engine.process()
    return {await engine.state(task) for task in tasks} <= {"complete", "blocked_by_failures"}


@pytest.mark.own_database
async def test_results_outlive_an_outage(
    database_url: str, engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gate = workshop.behaviours["s1"] = Gate({"kept": True})
    tasks = [await engine.create(chain(1)) for _ in range(5)]
    worker = await start_worker(chain(1))
    await until(lambda: len(workshop.calls) == 5)
    async with outages.outage(database_url):
        gate.opened.set()
        await until(
            lambda: worker.slots_in_use == 0
        )  # the handlers are done; their results cannot go anywhere
        assert len(worker._claims) == 5
    await until(lambda: settled(engine, *tasks))
    assert {await engine.state(task) for task in tasks} == {"complete"}
    assert await engine.sql("SELECT DISTINCT attempt, result FROM tasker.step_results") == [
        (1, {"kept": True})
    ]
    assert await engine.sql("SELECT * FROM tasker.step_leases") == []
    # It claims again, too.
    await until(lambda: settled(engine, *tasks))
    another = await engine.create(chain(1))
    await until(lambda: settled(engine, another))
    assert await engine.state(another) == "complete"


@pytest.mark.own_database
async def test_work_that_arrives_after_an_outage_is_claimed(
    database_url: str, engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    await engine.register(chain(1))
    await start_worker(chain(1))
    async with outages.outage(database_url):
        pass
    task = await engine.create(chain(1))
    await until(lambda: settled(engine, task))
    assert await engine.state(task) == "complete"


@pytest.mark.parametrize("style", ["async", "sync"])
async def test_a_result_that_cannot_be_stored_is_a_failure_that_can(
    engine: Engine, workshop: Workshop, start_worker: StartWorker, style: str
) -> None:
    values: dict[str, object] = {
        "nul": {"text": "a\0b"},
        "surrogate": ["\ud800"],
        "nan": {"n": float("nan")},
        "infinity": float("inf"),
        "object": {"o": object()},
        "large": {"text": "x" * (1024 * 1024 + 1)},
        "fine": {"text": "\\u0000 is only text"},
    }
    if style == "sync":
        workshop.registry = HandlerRegistry()
        workshop.registry.register(_sync(values), name="work")
    else:
        workshop.behaviours = dict.fromkeys(values, lambda context: values[context.step_name])
    document = graph({name: [] for name in values})
    task = await engine.create(document)
    await start_worker(document, registry=workshop.registry)
    await until(lambda: settled(engine, task))
    assert await engine.states(task) == {name: "complete" if name == "fine" else "error" for name in values}
    rows = await engine.sql(
        "SELECT s.name, r.error, r.attempt, r.metadata FROM tasker.step_results r "
        "JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) WHERE NOT r.success"
    )
    assert len(rows) == 6
    for name, error, attempt, metadata in rows:
        assert (error["error_type"], error["retryable"], attempt) == (
            "result_serialization_error",
            False,
            1,
        ), name
        assert metadata["custom"] == {"original_success": True}
        assert len(error["message"]) <= 500


def _sync(values: dict[str, object]) -> Any:
    def work(context: StepContext) -> object:
        return values[context.step_name]

    return work


@pytest.mark.own_database
async def test_what_the_database_refuses_after_all_spoils_no_other_result(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    async with engine.database.connection() as connection:
        await connection.execute(
            "ALTER TABLE tasker.step_results ADD CHECK (result IS DISTINCT FROM '{\"bad\": true}'::jsonb)"
        )
    document = graph({name: [] for name in ("a", "bad", "c", "d")})
    gate = Gate()

    async def together(context: StepContext) -> dict[str, bool]:
        await gate(context)
        return {"bad": True} if context.step_name == "bad" else {"fine": True}

    workshop.behaviours = dict.fromkeys(("a", "bad", "c", "d"), together)
    task = await engine.create(document)
    await start_worker(document)
    await until(lambda: len(workshop.calls) == 4)
    gate.opened.set()
    await until(lambda: settled(engine, task))
    assert await engine.states(task) == {"a": "complete", "bad": "error", "c": "complete", "d": "complete"}
    ((error,),) = await engine.sql("SELECT error FROM tasker.step_results WHERE NOT success")
    assert error["error_type"] == "result_serialization_error"


async def test_a_large_context_and_large_results_arrive_whole(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    words = {f"w{n}": "x" * 9_000 for n in range(20)}
    big = {"text": "y" * 500_000}
    workshop.behaviours["s1"] = lambda _: big
    task = await engine.create(chain(3), words)
    await start_worker(chain(3))
    await until(lambda: settled(engine, task))
    assert await engine.state(task) == "complete"
    seen = {context.step_name: context for context in workshop.calls}
    assert all(context.input_data == words for context in seen.values())
    assert seen["s2"].dependency_results == {"s1": big}
    assert seen["s3"].dependency_results == {"s1": big, "s2": {"step": "s2"}}
    assert json.dumps(seen["s1"].dependency_results) == "{}"


@pytest.mark.own_database
async def test_a_handler_still_runs_while_results_cannot_be_submitted(
    database_url: str, engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    """A blocked way back stops no handler."""
    first, second = Gate(), Gate()
    workshop.behaviours = {"a": first, "b": second}
    document = graph({"a": [], "b": []})
    task = await engine.create(document)
    worker = await start_worker(document)
    await until(lambda: len(workshop.calls) == 2)
    async with outages.outage(database_url):
        first.opened.set()
        await until(lambda: worker.slots_in_use == 1)
        second.opened.set()
        await until(lambda: worker.slots_in_use == 0)
    await until(lambda: settled(engine, task))
    await within(first.entered.wait())
    assert await engine.state(task) == "complete"
