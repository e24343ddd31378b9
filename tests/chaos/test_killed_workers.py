"""Workers that die around the commit in which they complete a step and claim the next one."""

from __future__ import annotations

import pytest

from tests.support.dynamic import PULL, assert_each_complete_once, fit_brake
from tests.support.engine import Engine, chain
from tests.support.fleet import STUBBORN, Fleet
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted, rival, service_sessions
from tests.support.waiting import until


@pytest.mark.own_database
@pytest.mark.parametrize(
    ("where", "states", "attempts"),
    [
        ("completing", ("in_progress", "pending"), {"s1": 2, "s2": 1, "s3": 1}),
        ("finishing", ("complete", "in_progress"), {"s1": 1, "s2": 2, "s3": 1}),
    ],
    ids=["before", "after"],
)
async def test_a_worker_killed_around_the_commit_loses_and_doubles_nothing(
    database_url: str, engine: Engine, where: str, states: tuple[str, str], attempts: dict[str, int]
) -> None:
    document = chain(3, **STUBBORN)
    async with Fleet(database_url, templates=[document]) as fleet, rival(engine) as braking:
        (worker,) = fleet.workers
        await fit_brake(engine, where)
        await braking.sql(PULL)
        task = await engine.create(document)

        async def at_the_brake() -> bool:
            return await service_sessions(engine, "worker", waiting=True) == 1

        await until(at_the_brake, what="the worker's transaction at the brake")
        await worker.kill()
        if where == "completing":  # its statement would commit all the same: the server, too, gives up on it
            await engine.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE 'tasker-worker%%' "
                "AND wait_event_type = 'Lock'"
            )
        await braking.rollback()

        async def gone() -> bool:
            return not await service_sessions(engine, "worker")

        await until(gone, what="the sessions of the killed worker gone")
        found = await engine.states(task)
        assert (found["s1"], found["s2"]) == states
        await worker.start()
        await fleet.finish(tasks=1)
    assert {name: step.attempts for name, step in (await engine.steps(task)).items()} == attempts
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)
    assert await engine.sql(
        "SELECT s.name, count(*) FROM tasker.step_results r JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) "
        "WHERE r.success GROUP BY 1 ORDER BY 1"
    ) == [("s1", 1), ("s2", 1), ("s3", 1)]
