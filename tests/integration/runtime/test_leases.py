"""A worker keeps the leases of what it runs, and stops what it has lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from tasker.domain.retry import LEASE
from tasker.worker.runtime.worker import Worker
from tests.integration.runtime.conftest import StartWorker
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS, until, within
from tests.support.workshop import Gate, Workshop

#: Worker-lost steps run again at once.
DOCUMENT = chain(1, retry={"max_attempts": 3, "backoff": "none"})


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew many times a second instead of every ten."""
    monkeypatch.setattr("tasker.worker.runtime.heartbeat.LEASE_RENEWAL", timedelta(seconds=0.05))


async def lose(engine: Engine) -> None:
    """Let every lease run out and have the sweeper notice."""
    await engine.sweeper.tick()
    await engine.move_clock(LEASE.total_seconds() + 1)
    await engine.sweeper.tick()


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_running_step_is_renewed_for_as_long_as_it_runs(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gate = workshop.behaviours["s1"] = Gate({"done": True})
    task = await engine.create(DOCUMENT)
    await start_worker(DOCUMENT)
    await within(gate.entered.wait())
    await engine.sweeper.tick()
    for _ in range(4):  # far longer than one lease
        await engine.move_clock(LEASE.total_seconds() * 0.9)

        async def renewed() -> bool:
            ((fresh,),) = await engine.sql(
                "SELECT expires_at > tasker.now() + interval '29 seconds' FROM tasker.step_leases"
            )
            return bool(fresh)

        await until(renewed)
        await engine.sweeper.tick()
    gate.opened.set()
    await until(lambda: _submitted(engine, task))
    await engine.process()
    assert (await engine.steps(task))["s1"].attempts == 1
    assert await engine.state(task) == "complete"


async def _submitted(engine: Engine, task: UUID) -> bool:
    return (await engine.states(task))["s1"] not in ("enqueued", "in_progress")


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_lost_lease_stops_the_handler(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gate = workshop.behaviours["s1"] = Gate()
    task = await engine.create(DOCUMENT | {"on_worker_lost": "fail"})
    worker = await start_worker(DOCUMENT | {"on_worker_lost": "fail"})
    await within(gate.entered.wait())
    # Not by the sweeper, whom the quick heartbeat outruns: somebody else has the lease now.
    await engine.sql("UPDATE tasker.step_leases SET lease_token = gen_random_uuid() RETURNING 1")
    await within(gate.cancelled.wait())
    await until(lambda: worker.slots_in_use == 0)
    assert workshop.calls[0].cancelled.reason == "the lease is lost"
    assert await engine.sql("SELECT * FROM tasker.step_results") == []
    assert (await engine.states(task))["s1"] == "in_progress"  # the other one's business


async def test_a_result_that_comes_too_late_changes_nothing(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gates = [Gate({"from": 1}), Gate({"from": 2})]
    workshop.behaviours["s1"] = lambda context: gates[context.attempt - 1](context)
    task = await engine.create(DOCUMENT)
    await start_worker(DOCUMENT, slots=1)
    await within(gates[0].entered.wait())
    await lose(engine)
    await engine.process()  # worker_lost is judged, and the step enqueued again
    await engine.timers.tick()
    other = Workshop()
    other.behaviours["s1"] = gates[1]
    await start_worker(DOCUMENT, registry=other.registry)
    await within(gates[1].entered.wait())
    gates[0].opened.set()  # the first worker was only slow
    gates[1].opened.set()
    await until(lambda: _submitted(engine, task))
    await engine.process()
    assert (await engine.states(task))["s1"] == "complete"
    rows = await engine.sql("SELECT attempt, success, result FROM tasker.step_results ORDER BY attempt")
    assert [(attempt, success) for attempt, success, _ in rows] == [(1, False), (2, True)]
    assert rows[1][2] == {"from": 2}


async def test_a_worker_that_gets_its_own_lost_step_again_keeps_the_two_apart(
    engine: Engine, workshop: Workshop, new_worker: Callable[..., Worker]
) -> None:
    """The first attempt is stopped; the second one goes on, is renewed and is waited for."""
    gates = [Gate({"from": 1}), Gate({"from": 2})]
    workshop.behaviours["s1"] = lambda context: gates[context.attempt - 1](context)
    task = await engine.create(DOCUMENT)
    worker = new_worker(DOCUMENT)
    await worker.start()
    await within(gates[0].entered.wait())
    await lose(engine)
    await engine.process()
    await engine.timers.tick()
    await within(gates[1].entered.wait())
    await within(gates[0].cancelled.wait())
    await until(lambda: worker.slots_in_use == 1)
    assert [claim.attempt for claim in worker._claims.all().values()] == [2]
    gates[1].opened.set()
    await worker.stop()
    await engine.process()
    assert await engine.state(task) == "complete"
    ((result,),) = await engine.sql("SELECT result FROM tasker.step_results WHERE success")
    assert result == {"from": 2}


@pytest.mark.usefixtures("quick_heartbeat")
async def test_the_worker_itself_is_alive_without_steps(engine: Engine, start_worker: StartWorker) -> None:
    worker = await start_worker(DOCUMENT)

    async def heartbeat() -> object:
        return await engine.sql(
            "SELECT 1 FROM tasker.workers WHERE worker_uuid = %s AND heartbeat_at > started_at + interval '1 hour' "
            "AND stopped_at IS NULL AND namespaces = '{test}' AND handlers = '{work}'",
            worker.worker_uuid,
        )

    assert not await heartbeat()
    await engine.move_clock(3700)
    await until(heartbeat)


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_handler_that_blocks_the_loop_costs_no_lease(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    expiries: set[object] = set()

    def block(_: object) -> dict[str, bool]:
        """Hold up the loop, which is this test's too, until the lease was renewed a few times."""
        with psycopg.connect(engine.url, autocommit=True) as connection:
            give_up = time.monotonic() + PATIENCE_SECONDS
            while len(expiries) < 4 and time.monotonic() < give_up:
                expiries.update(
                    row[0] for row in connection.execute("SELECT expires_at FROM tasker.step_leases")
                )
        return {"done": True}

    workshop.behaviours["s1"] = block
    task = await engine.create(DOCUMENT)
    await start_worker(DOCUMENT)
    await until(lambda: _submitted(engine, task))
    assert len(expiries) == 4
