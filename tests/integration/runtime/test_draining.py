"""A worker that stops: claims no more, finishes what runs, records it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tasker.messaging.pgmq import PgmqWorkerBroker
from tasker.worker.runtime.worker import Worker
from tests.support.engine import Engine, chain
from tests.support.waiting import within
from tests.support.workshop import Gate, Workshop

NewWorker = Callable[..., Worker]


async def test_stopping_finishes_what_runs_and_claims_no_more(
    engine: Engine, workshop: Workshop, new_worker: NewWorker
) -> None:
    gate = workshop.behaviours["s1"] = Gate({"done": True})
    worker = new_worker(chain(2), slots=2)
    first = await engine.create(chain(2))
    await worker.start()
    await within(gate.entered.wait())
    stopping = asyncio.create_task(worker.stop())
    second = await engine.create(chain(2))  # with a hint, and a slot is free
    gate.opened.set()
    await within(stopping)
    await engine.process()
    assert await engine.states(first) == {"s1": "complete", "s2": "enqueued"}
    assert await engine.states(second) == {"s1": "enqueued", "s2": "pending"}
    assert await engine.messages("worker_test_queue") == 2  # visible at once to others
    assert len(await engine.claim()) == 2
    assert [context.step_name for context in workshop.calls] == ["s1"]
    ((stopped,),) = await engine.sql("SELECT stopped_at IS NOT NULL FROM tasker.workers")
    assert stopped


async def test_stopping_under_load_leaves_nothing_in_progress(
    engine: Engine, workshop: Workshop, new_worker: NewWorker
) -> None:
    running = asyncio.Event()

    async def brief(_: object) -> dict[str, int]:
        if len(workshop.calls) >= 5:
            running.set()
        await asyncio.sleep(0)
        return {}

    workshop.behaviours["s1"] = brief
    worker = new_worker(chain(1), slots=8)
    tasks = await asyncio.gather(*(engine.create(chain(1)) for _ in range(60)))
    await worker.start()
    await within(running.wait())
    await within(worker.stop())
    await engine.process()
    states = [(await engine.states(task))["s1"] for task in tasks]
    assert set(states) <= {"complete", "enqueued"}
    assert states.count("complete") == len(workshop.calls)
    assert await engine.messages("worker_test_queue") == states.count("enqueued")
    assert await engine.sql("SELECT * FROM tasker.step_leases") == []


async def test_a_worker_without_work_stops_at_once(engine: Engine, new_worker: NewWorker) -> None:
    worker = new_worker(chain(1))
    await worker.start()
    await within(worker.stop(), seconds=2)


async def test_a_handler_that_does_not_end_is_left_to_its_lease(
    engine: Engine, workshop: Workshop, new_worker: NewWorker
) -> None:
    gate = workshop.behaviours["s1"] = Gate()
    worker = new_worker(chain(1), shutdown_timeout_seconds=0.2)
    task = await engine.create(chain(1))
    await worker.start()
    await within(gate.entered.wait())
    with pytest.raises(TimeoutError):
        await worker.stop()
    assert (await engine.states(task))["s1"] == "in_progress"
    assert len(await engine.sql("SELECT * FROM tasker.step_leases")) == 1
    gate.opened.set()


async def test_steps_of_a_claim_in_flight_run_and_are_recorded(
    engine: Engine, workshop: Workshop, new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed, go_on = asyncio.Event(), asyncio.Event()
    claim = PgmqWorkerBroker.claim

    async def slow_claim(*args: Any, **more: Any) -> Any:
        steps = await claim(*args, **more)
        if steps:
            claimed.set()
            await go_on.wait()
        return steps

    monkeypatch.setattr(PgmqWorkerBroker, "claim", slow_claim)
    worker = new_worker(chain(1))
    task = await engine.create(chain(1))
    await worker.start()
    await within(claimed.wait())
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    go_on.set()
    await within(stopping)
    await engine.process()
    assert await engine.state(task) == "complete"


async def test_a_poison_search_that_fails_does_not_end_the_claims(
    engine: Engine, workshop: Workshop, new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()
    gate = workshop.behaviours["s1"] = Gate({})
    claim = PgmqWorkerBroker.claim

    async def claim_once_broken(*args: Any, **more: Any) -> Any:
        if not failed.is_set():
            raise RuntimeError("no message can be claimed")
        return await claim(*args, **more)

    async def broken_search(*_: Any) -> Any:
        failed.set()
        raise RuntimeError("nor looked at")

    monkeypatch.setattr(PgmqWorkerBroker, "claim", claim_once_broken)
    monkeypatch.setattr(PgmqWorkerBroker, "visible", broken_search)
    task = await engine.create(chain(1))
    worker = new_worker(chain(1))
    await worker.start()
    await within(failed.wait())
    await within(gate.entered.wait())
    gate.opened.set()
    await within(worker.stop())
    await engine.process()
    assert await engine.state(task) == "complete"
