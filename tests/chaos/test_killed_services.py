"""Processes that die without a word, and processes that are asked to go."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets

import pytest

from tests.support.engine import graph
from tests.support.fleet import Fleet, violations
from tests.support.processes import ServiceProcess
from tests.support.waiting import until

pytestmark = pytest.mark.own_database

TASKS = 200
STEPS = TASKS * (4 + 7) // 2  #: half of the tasks are a `workflow`, half are `wide`
KILLS = 12


async def test_random_kills_lose_nothing_and_do_nothing_twice(
    database_url: str,
) -> None:
    """Three orchestrators, a worker of each way, DAG tasks, kill -9 at random: each process at least once."""
    seed = secrets.randbelow(10**6)
    logging.getLogger(__name__).warning("seed %d", seed)  # pytest shows it when the test fails
    chance = random.Random(seed)
    async with (
        Fleet(database_url, orchestrators=3, workers=2, direct=(True, False)) as fleet,
        fleet.clients() as clients,
    ):
        creating = asyncio.gather(
            *(fleet.create(clients, n, name="wide" if n % 2 else "workflow") for n in range(TASKS))
        )
        victims = [*fleet.processes, *chance.choices(fleet.processes, k=KILLS - len(fleet.processes))]
        chance.shuffle(victims)
        moments = sorted(chance.sample(range(1, STEPS * 9 // 10), KILLS))
        for victim, moment in zip(victims, moments, strict=True):
            await steps_complete(fleet, moment)
            await victim.kill()
            await victim.start()
            if chance.random() < 0.5:
                await fleet.expire_leases()
        uuids = await creating
        await fleet.ready()
        await fleet.finish(tasks=TASKS)
        assert len(set(uuids)) == TASKS
        assert await violations(fleet) == {}
        ((lost,),) = await fleet.sql(
            "SELECT count(*) FROM tasker.step_results WHERE error ->> 'error_type' = 'worker_lost'"
        )
        assert lost > 0  # it did hit something


async def steps_complete(fleet: Fleet, goal: int) -> None:
    """Wait until so many steps are complete."""
    looks = 0

    async def reached() -> bool:
        nonlocal looks
        looks += 1
        if looks % 100 == 0:
            await fleet.expire_leases()  # everything waits for the steps of a dead worker
        ((complete,),) = await fleet.sql(
            "SELECT count(*) FROM tasker.workflow_steps WHERE state = 'complete'"
        )
        return int(complete) >= goal

    await until(reached, what=f"{goal} steps complete")


async def test_a_worker_killed_in_a_handler_is_found_out(database_url: str) -> None:

    document = graph({"again": [], "never": []}, handler="hang_once")
    document["steps"][1]["on_worker_lost"] = "fail"
    async with Fleet(database_url, templates=[document]) as fleet, fleet.clients() as (client,):
        task = await client.create()
        markers = [fleet.folder / "again-1", fleet.folder / "never-1"]
        await until(lambda: all(marker.exists() for marker in markers))
        stream = client.stream(task.task_uuid)
        (worker,) = fleet.workers
        await worker.kill()
        await worker.start()
        looks = 0

        async def recovered() -> bool:
            nonlocal looks
            if looks % 50 == 0:
                await fleet.expire_leases()
            looks += 1
            steps = await client.list_steps(task.task_uuid)
            return (steps["again"].attempts, steps["again"].HasField("completed_at")) == (2, True)

        await until(recovered)
        last = [update async for update in stream][-1]
        assert "worker" in last.error_message
        rows = await fleet.sql(
            "SELECT s.name, r.attempt, r.success, r.error ->> 'error_type', s.state::text FROM tasker.step_results r "
            "JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) ORDER BY 1, 2"
        )
        assert rows == [
            ("again", 1, False, "worker_lost", "complete"),
            ("again", 2, True, None, "complete"),
            ("never", 1, False, "worker_lost", "error"),
        ]
        assert (fleet.folder / "again-2").exists()
        assert not (fleet.folder / "never-2").exists()


async def test_sigterm_under_load_leaves_nothing_unfinished(
    database_url: str,
) -> None:
    tasks = 30
    async with Fleet(database_url) as fleet, fleet.clients() as clients:
        (orchestrator,), (worker,) = fleet.orchestrators, fleet.workers
        await asyncio.gather(*(fleet.create(clients, n, name="wide") for n in range(tasks)))
        assert await terminated(worker) == 0
        assert (
            await fleet.sql("SELECT step_uuid FROM tasker.workflow_steps WHERE state = 'in_progress'") == []
        )
        assert await fleet.sql("SELECT * FROM tasker.step_leases") == []
        assert await fleet.sql("SELECT 1 FROM tasker.workers WHERE stopped_at IS NULL") == []
        assert await terminated(orchestrator) == 0
        await worker.start()
        await orchestrator.start()
        await fleet.finish(tasks=tasks)
        assert await violations(fleet) == {}
        assert (
            await fleet.sql("SELECT 1 FROM tasker.workflow_steps WHERE attempts > 1") == []
        )  # all were recorded


async def terminated(process: ServiceProcess) -> int:
    """Ask a process to go, and return its exit code."""
    code = await process.terminate()
    assert code == 0, process.tail()
    return code
