"""Handlers that would take their worker with them, on a worker that is a process of its own."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine, chain, graph
from tests.support.fleet import Fleet
from tests.support.waiting import until

#: What went wrong shall show, not be repeated.
ONCE = {"retry": {"max_attempts": 1}}


@pytest.mark.own_database
@pytest.mark.parametrize("handler", ["forks", "exits_in_callback"])
async def test_a_handler_that_forks_or_exits_leaves_its_worker_running(
    database_url: str, engine: Engine, handler: str
) -> None:
    document = chain(2, handler=handler, **ONCE)
    async with Fleet(database_url, templates=[document]) as fleet:
        task = await engine.create(document)
        await fleet.finish(tasks=1)
        (worker,) = fleet.workers
        assert worker.is_running
        assert await worker.terminate() == 0  # and it hears its own signals still
    assert await engine.states(task) == {"s1": "complete", "s2": "complete"}
    if handler == "forks":
        ((result,),) = await engine.sql("SELECT DISTINCT result FROM tasker.step_results")
        assert result == {"squares": [1, 4, 9], "ended_by": -15}


@pytest.mark.own_database
async def test_every_slot_has_a_thread_for_what_handlers_put_into_threads(
    database_url: str, engine: Engine
) -> None:
    document = graph({f"s{n}": [] for n in range(8)}, handler="meets_in_threads", **ONCE)
    async with Fleet(database_url, templates=[document], slots=8) as fleet:
        await engine.create(document)
        await fleet.finish(tasks=1)


@pytest.mark.own_database
async def test_what_ends_its_workers_ends_in_error_and_costs_its_neighbours_no_attempt(
    database_url: str, engine: Engine
) -> None:
    retry = {"retry": {"max_attempts": 2, "backoff": "none"}}
    document = graph({f"s{n}": [] for n in range(5)}, handler="is_beside_it", **retry)
    document["steps"].append({"name": "culprit", "handler": "ends_its_process", **retry})
    async with Fleet(database_url, templates=[document], slots=6) as fleet:
        task = await engine.create(document)
        (worker,) = fleet.workers

        async def blocked() -> bool:
            if not worker.is_running:
                await fleet.expire_leases()
                await engine.sweep_leases(10)
                await worker.start()
            return await engine.state(task) == "blocked_by_failures"

        await until(blocked, seconds=90, what="the culprit found")
    steps = await engine.steps(task)
    assert {name: step.state for name, step in steps.items()} == {
        **{f"s{n}": "complete" for n in range(5)},
        "culprit": "error",
    }
    ((message,),) = await engine.sql(
        "SELECT r.error ->> 'message' FROM tasker.step_results r "
        "JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) WHERE s.name = 'culprit' "
        "ORDER BY r.sort_key DESC LIMIT 1"
    )
    assert "its handler seems to end the process" in message
