"""Of concurrent pollers no two get the same, and none waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from tests.support.engine import Engine, chain
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted, at_once, rival

TASKS = 30
BEGINNING = UUID(int=0)


async def _many(engine: Engine) -> list[UUID]:
    template = await engine.register(chain(2, retry={"backoff": "none"}))
    return [(await engine.request(template)).task.task_uuid for _ in range(TASKS)]


async def _results(engine: Engine) -> None:
    await engine.succeed(*await engine.claim())


async def _failures(engine: Engine) -> None:
    await engine.fail(*await engine.claim())


async def _retries(engine: Engine) -> None:
    await _failures(engine)
    await engine.process()
    await engine.move_clock(10)


async def _nothing(engine: Engine) -> None:
    pass


#: What each poller takes: what must be there for it, how ten of it are taken, and how to tell whose they were.
POLLERS = {
    "timers": (
        _retries,
        "SELECT * FROM tasker.fire_timers_v1(10)",
        "SELECT task_uuid FROM tasker.workflow_steps WHERE state = 'enqueued'",
    ),
    "results": (
        _results,
        "SELECT * FROM tasker.process_results_v1(10, 0, NULL)",
        "SELECT task_uuid FROM tasker.workflow_steps WHERE state = 'complete'",
    ),
    "judgements": (
        _failures,
        "SELECT task_uuid FROM tasker.take_judgements_v1(10, 0, NULL)",
        None,
    ),
    "reconciler": (
        _nothing,
        f"SELECT task_uuid FROM tasker.reconcile_tasks_v1('{BEGINNING}', 10, '0')",
        None,
    ),
    "workers": (
        _nothing,
        "SELECT task_uuid FROM tasker.claim_steps_v1(ARRAY['worker_test_queue'], ARRAY[0]::bigint[], 10, "
        "gen_random_uuid(), gen_random_uuid(), '30 s', ARRAY['work'], '60 s', 65536, NULL)",
        None,
    ),
}


@pytest.mark.parametrize("poller", POLLERS)
async def test_while_one_has_its_group_locked_the_next_gets_another_one(
    any_engine: Engine, poller: str
) -> None:
    tasks = await _many(any_engine)
    prepare, take, taken_by = POLLERS[poller]
    await prepare(any_engine)
    async with rival(any_engine) as one, rival(any_engine) as two, rival(any_engine) as three:
        groups = []
        for session in (one, two, three):  # none has committed when the next one comes
            rows = await at_once(session.sql(take))
            if taken_by is not None:
                rows = await session.sql(taken_by)
            groups.append({row[0] for row in rows})
        assert [len(group) for group in groups] == [10, 10, 10]
        assert set().union(*groups) == set(tasks)
        assert await at_once(_taken_by_a_fourth(any_engine, take, taken_by)) == set()


async def _taken_by_a_fourth(engine: Engine, take: str, taken_by: str | None) -> set[UUID]:
    async with rival(engine) as four:
        rows = await four.sql(take)
        return {row[0] for row in (rows if taken_by is None else await four.sql(taken_by)) if row[0]}


async def _wake(engine: Engine) -> int:
    return (await engine.fire_timers(4)).woken


async def _process(engine: Engine) -> int:
    return (await engine.orchestration.process_results(4)).handled


@pytest.mark.parametrize(
    ("prepare", "poll"), [(_retries, _wake), (_results, _process)], ids=["timers", "results"]
)
async def test_orchestrators_that_poll_at_once_handle_everything_once(
    database_url: str,
    prepare: Callable[[Engine], Awaitable[None]],
    poll: Callable[[Engine], Awaitable[int]],
) -> None:
    async with Engine(database_url) as one, Engine(database_url) as two, Engine(database_url) as three:
        await _many(one)
        await prepare(one)
        handled = 0
        async with asyncio.timeout(20):
            while handled < TASKS:
                handled += sum(await asyncio.gather(*(poll(engine) for engine in (one, two, three))))
        assert handled == TASKS
        assert await one.messages("worker_test_queue") == TASKS
        await assert_history_is_whole(one)
        await assert_nothing_drifted(one)


async def test_reconcilers_side_by_side_repair_each_task_once(database_url: str) -> None:
    async with Engine(database_url) as one, Engine(database_url) as two:
        tasks = await _many(one)
        await one.sql("SELECT pgmq.purge_queue('worker_test_queue')")
        await one.move_clock(60)
        grace = timedelta(seconds=30)
        groups = await asyncio.gather(*(engine.reconcile(BEGINNING, TASKS, grace) for engine in (one, two)))
        resent = [task.task_uuid for group in groups for task in group if task.resent]
        assert sorted(resent) == sorted(set(resent))
        assert {task.task_uuid for group in groups for task in group} == set(tasks)
        assert await one.messages("worker_test_queue") == TASKS
