"""Handlers that would take their worker with them, on a worker that is a process of its own."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine, chain, graph
from tests.support.fleet import Fleet

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
