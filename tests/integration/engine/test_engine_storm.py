"""Everything at once over shared tasks: no deadlock, nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from uuid import UUID

import pytest

from tasker.domain.errors import IdentityConflictError
from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE
from tasker.persistence.operations.renew import Lease
from tasker.persistence.operations.submit import ResultToSubmit
from tests.support.engine import Engine, chain, diamond, failure, graph, success
from tests.support.rivals import (
    PATIENCE_SECONDS,
    assert_history_is_whole,
    assert_nothing_drifted,
    deadlocks,
)

WORKERS = "worker_test_queue"
RETRY = {"max_attempts": 1000, "backoff_base_ms": 100, "max_backoff_ms": 1000}

WIDE = graph(
    {"root": [], **{f"leaf_{n}": ["root"] for n in range(6)}, "join": [f"leaf_{n}" for n in range(6)]},
    retry=RETRY,
)

pytestmark = pytest.mark.both_ways
TEMPLATES = [
    chain(4, retry=RETRY) | {"name": "chain", "identity_strategy": "strict"},
    diamond(retry=RETRY) | {"name": "diamond", "identity_strategy": "strict"},
    WIDE | {"name": "wide", "identity_strategy": "strict"},
]  # fmt: skip


class Storm:
    """Who does what to the same few tasks, all at the same time."""

    def __init__(self, engines: list[Engine]) -> None:
        self._engines = engines
        self._over = asyncio.Event()
        self._created = 0
        self.tasks = 15

    async def rage(self) -> None:
        """Let everybody loose until every task is complete."""
        async with asyncio.timeout(3 * PATIENCE_SECONDS), asyncio.TaskGroup() as everybody:
            for number, engine in enumerate(self._engines):
                mood = random.Random(number)
                for act in (
                    self._create, self._work, self._work_on_somebody_elses, self._process, self._judge, self._wake,
                    self._sweep, self._reconcile, self._repeat, self._lock,
                ):  # fmt: skip
                    everybody.create_task(self._again_and_again(act, engine, random.Random(mood.random())))
            everybody.create_task(self._again_and_again(self._tick, self._engines[0], random.Random(0)))
            everybody.create_task(self._watch())

    async def _again_and_again(
        self, act: Callable[[Engine, random.Random], Awaitable[object]], engine: Engine, mood: random.Random
    ) -> None:
        while not self._over.is_set():
            await act(engine, mood)
            await asyncio.sleep(0)

    async def _watch(self) -> None:
        engine = self._engines[0]
        while not self._over.is_set():
            ((tasks, complete),) = await engine.sql(
                "SELECT count(*), count(*) FILTER (WHERE state = 'complete') FROM tasker.tasks"
            )
            if tasks == complete == self.tasks:
                self._over.set()
            await asyncio.sleep(0.02)

    async def _create(self, engine: Engine, mood: random.Random) -> None:
        """Ask for the same tasks as the others do."""
        for number in random.Random(mood.random()).sample(range(self.tasks), self.tasks):
            template = await engine.register(TEMPLATES[number % len(TEMPLATES)])
            with suppress(IdentityConflictError):
                await engine.request(template, {"number": number})
        await self._over.wait()

    async def _work(self, engine: Engine, mood: random.Random) -> None:
        steps = await engine.claim(mood.choice([1, 5, 60]))
        mood.shuffle(steps)
        if mood.random() < 0.3:
            await engine.renew([step.lease for step in steps])
        kept = [step for step in steps if mood.random() > 0.05]  # the others' worker is lost
        results = [
            success(step, {"by": step.name}) if mood.random() > 0.15 else failure(step) for step in kept
        ]
        await engine.worker.submit(results)
        if mood.random() < 0.3:
            await engine.worker.submit(results)  # the first answer got lost

    async def _work_on_somebody_elses(self, engine: Engine, mood: random.Random) -> None:
        """Deliver results under whatever leases there are, in any order, as the late ones do."""
        rows = await engine.sql(
            "SELECT task_uuid, step_uuid, lease_token, jsonb_build_object('step_uuid', step_uuid, "
            "'success', true, 'status', 'completed', 'result', '{}'::jsonb, 'metadata', '{}'::jsonb)::text "
            "FROM tasker.step_leases ORDER BY random() LIMIT %s",
            mood.choice([0, 1, 40]),
        )
        await engine.worker.submit(
            [ResultToSubmit(Lease(*lease), text, success=True) for *lease, text in rows]
        )
        await asyncio.sleep(0.02 * mood.random())

    async def _process(self, engine: Engine, mood: random.Random) -> None:
        await engine.orchestration.process_results(mood.randint(1, 20))

    async def _judge(self, engine: Engine, _: random.Random) -> None:
        await engine.judgements.tick()

    async def _wake(self, engine: Engine, mood: random.Random) -> None:
        await engine.fire_timers(mood.randint(1, 10))

    async def _sweep(self, engine: Engine, mood: random.Random) -> None:
        await engine.sweep_leases(mood.randint(1, 10))

    async def _reconcile(self, engine: Engine, mood: random.Random) -> None:
        reconciled = await engine.reconcile(
            UUID(int=0), mood.randint(1, self.tasks), timedelta(seconds=mood.choice([0, 2]))
        )
        assert not [each for each in reconciled if each.drift]
        await asyncio.sleep(0.02 * mood.random())

    async def _repeat(self, engine: Engine, mood: random.Random) -> None:
        queue = mood.choice([WORKERS, RESULTS_QUEUE, JUDGEMENTS_QUEUE])
        if await engine.messages(queue) < 100:
            await engine.database.execute(
                f"INSERT INTO pgmq.q_{queue} (vt, message) "
                f"SELECT clock_timestamp(), message FROM pgmq.q_{queue} ORDER BY random() LIMIT 30"
            )
        await asyncio.sleep(0.02 * mood.random())

    async def _lock(self, engine: Engine, mood: random.Random) -> None:
        """Stand in the way of whoever locks several steps, as an operator at one of them does."""
        async with engine.database.transaction() as transaction:
            await transaction.execute(
                "SELECT 1 FROM tasker.workflow_steps WHERE state IN ('enqueued', 'in_progress') "
                "ORDER BY random() LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"
            )
            await asyncio.sleep(0.02 * mood.random())

    async def _tick(self, engine: Engine, mood: random.Random) -> None:
        await engine.move_clock(mood.choice([0.1, 1, 1, 10]))
        await asyncio.sleep(0.01)


@pytest.mark.own_database
@pytest.mark.timeout(180)
async def test_a_storm_over_shared_tasks(any_database_url: str) -> None:
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(Engine(any_database_url)) for _ in range(3)]
        for template in TEMPLATES:
            await engines[0].register(template)
        storm = Storm(engines)
        await storm.rage()

        engine = engines[0]
        await assert_history_is_whole(engine)
        await assert_nothing_drifted(engine)
        ((tasks, identities),) = await engine.sql(
            "SELECT (SELECT count(*) FROM tasker.tasks), (SELECT count(*) FROM tasker.task_identities)"
        )
        assert (tasks, identities) == (storm.tasks, storm.tasks)
        assert not await engine.sql("SELECT 1 FROM tasker.poison_messages")
        # Every step completed once, by one success, though it may have failed before.
        uneven = await engine.sql(
            "SELECT s.name, r.successes, s.attempts, r.results FROM tasker.workflow_steps s CROSS JOIN LATERAL ("
            "SELECT count(*) FILTER (WHERE r.success) AS successes, count(*) AS results FROM tasker.step_results r "
            "WHERE r.task_uuid = s.task_uuid AND r.step_uuid = s.step_uuid) r "
            "WHERE s.state <> 'complete' OR r.successes <> 1 OR r.results <> s.attempts"
        )
        assert uneven == []
    assert await deadlocks(any_database_url) == 0
