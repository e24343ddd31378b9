"""A worker on the short way: it completes its steps itself and goes on with what follows, where that is fair."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

import psycopg
import pytest

from tasker.messaging.pgmq import PgmqWorkerBroker
from tasker.messaging.queues import RESULTS_QUEUE
from tasker.persistence.operations.finish import FinishedSteps, NextClaims
from tasker.persistence.operations.submit import ResultToSubmit
from tasker.worker.runtime.worker import Worker
from tests.integration.runtime.conftest import StartWorker
from tests.support.engine import WORKER_QUEUE, Engine, chain, graph
from tests.support.faults import poison, refuse
from tests.support.waiting import until, within
from tests.support.workshop import Gate, Workshop

FAN = graph({"root": [], **{f"leaf{n}": ["root"] for n in range(6)}, "join": [f"leaf{n}" for n in range(6)]})


async def complete(engine: Engine, *tasks: UUID) -> bool:
    """Tell whether tasks are complete, without an orchestrator."""
    return {await engine.state(task) for task in tasks} == {"complete"}


async def processed(engine: Engine, *tasks: UUID) -> bool:
    """Do what orchestration has to do; tell whether tasks are complete."""
    await engine.process()
    return await complete(engine, *tasks)


async def messages_sent(engine: Engine, queue: str) -> int:
    """Return how many messages a queue was ever sent."""
    ((sent,),) = await engine.sql(
        f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pgmq.q_{queue}_msg_id_seq"
    )
    return int(sent)


async def test_a_chain_runs_to_its_end_without_an_orchestrator(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    await start_worker(chain(4))
    sent = await messages_sent(engine, WORKER_QUEUE)
    task = await engine.create(chain(4))
    await until(lambda: complete(engine, task))
    assert [context.step_name for context in workshop.calls] == ["s1", "s2", "s3", "s4"]
    assert await messages_sent(engine, WORKER_QUEUE) == sent + 1
    assert await engine.sql("SELECT 1 FROM tasker.step_leases") == []


async def test_switched_off_every_result_goes_to_orchestration(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    await start_worker(chain(2), direct_completion=False)
    sent = await messages_sent(engine, RESULTS_QUEUE)
    task = await engine.create(chain(2))
    await until(lambda: processed(engine, task))
    assert await messages_sent(engine, RESULTS_QUEUE) == sent + 2


async def test_a_fan_out_spreads_over_two_workers(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    """One that has finished one step claims one: the others are for whoever has slots."""
    gate = Gate()
    other = Workshop()
    for name in (f"leaf{n}" for n in range(6)):
        workshop.behaviours[name] = other.behaviours[name] = gate
    await start_worker(FAN, slots=3)
    await start_worker(FAN, slots=3, registry=other.registry)
    task = await engine.create(FAN)

    def leaves(shop: Workshop) -> int:
        return sum(context.step_name.startswith("leaf") for context in shop.calls)

    await until(lambda: leaves(workshop) + leaves(other) == 6)
    assert (leaves(workshop), leaves(other)) == (3, 3)
    gate.opened.set()
    # Who finds the task busy with the other one's leaves leaves its own to orchestration.
    await until(lambda: processed(engine, task))


async def test_with_a_backlog_older_work_goes_first(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    tasks = [await engine.create(chain(2)) for _ in range(8)]
    await start_worker(chain(2), slots=1)
    await until(lambda: complete(engine, *tasks))
    order = [(context.step_name, tasks.index(context.task_uuid)) for context in workshop.calls]
    first_steps = [task for name, task in order if name == "s1"]
    assert first_steps == sorted(first_steps)
    # The last task began before the first one went on.
    assert order.index(("s1", 7)) < order.index(("s2", 0))


async def test_work_that_waits_for_a_slot_goes_before_what_follows(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gate = Gate()
    workshop.behaviours["s1"] = lambda context: gate(context) if len(workshop.calls) == 1 else {}
    worker = await start_worker(chain(2), slots=1)
    first = await engine.create(chain(2))
    await within(gate.entered.wait())
    second = await engine.create(chain(2))  # its hint wakes the consumer, which finds no slot
    await until(lambda: worker._consumer._emptied is False)
    gate.opened.set()
    await until(lambda: complete(engine, first, second))
    assert [(context.task_uuid, context.step_name) for context in workshop.calls[:2]] == [
        (first, "s1"),
        (second, "s1"),
    ]


async def test_a_worker_that_stops_claims_nothing_any_more(
    engine: Engine, workshop: Workshop, new_worker: Callable[..., Worker]
) -> None:
    gate = workshop.behaviours["s1"] = Gate()
    worker = new_worker(chain(2))
    await worker.start()
    task = await engine.create(chain(2))
    await within(gate.entered.wait())
    stopping = asyncio.create_task(worker.stop())
    await until(worker._consumer._stopping.is_set)
    gate.opened.set()
    await within(stopping)
    assert await engine.states(task) == {"s1": "complete", "s2": "enqueued"}
    assert [step.name for step in await engine.claim()] == ["s2"]


async def test_what_was_claimed_while_the_worker_began_to_stop_still_runs(
    engine: Engine, workshop: Workshop, new_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call was under way already: the worker waits for the step that it brings."""
    under_way, may_go_on = asyncio.Event(), asyncio.Event()
    finish = PgmqWorkerBroker.finish

    async def held_up(
        self: PgmqWorkerBroker, results: Sequence[ResultToSubmit], claims: NextClaims
    ) -> FinishedSteps:
        if not under_way.is_set():
            under_way.set()
            await may_go_on.wait()
        return await finish(self, results, claims)

    monkeypatch.setattr(PgmqWorkerBroker, "finish", held_up)
    worker = new_worker(chain(3))
    await worker.start()
    task = await engine.create(chain(3))
    await within(under_way.wait())
    stopping = asyncio.create_task(worker.stop())
    await until(worker._consumer._stopping.is_set)
    may_go_on.set()
    await within(stopping)
    assert await engine.states(task) == {"s1": "complete", "s2": "complete", "s3": "enqueued"}
    assert await engine.sql("SELECT 1 FROM tasker.step_leases") == []


async def test_a_reply_that_is_lost_loses_no_claim(
    engine: Engine, workshop: Workshop, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = 0
    finish = PgmqWorkerBroker.finish

    async def lossy(
        self: PgmqWorkerBroker, results: Sequence[ResultToSubmit], claims: NextClaims
    ) -> FinishedSteps:
        nonlocal lost
        finished = await finish(self, results, claims)
        if lost < 2 and finished.claimed:
            lost += 1
            claims.repeated = True
            raise psycopg.OperationalError("the connection is lost, after the commit")
        return finished

    monkeypatch.setattr(PgmqWorkerBroker, "finish", lossy)
    await start_worker(chain(3))
    task = await engine.create(chain(3))
    await until(lambda: complete(engine, task))
    assert lost == 2
    assert [context.step_name for context in workshop.calls] == ["s1", "s2", "s3"]
    assert {step.attempts for step in (await engine.steps(task)).values()} == {1}


async def test_slots_are_not_exceeded_by_what_follows(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    worker = await start_worker(chain(4), slots=2)
    most = 0

    async def noting(context: object) -> dict[str, int]:
        nonlocal most
        await asyncio.sleep(0)
        most = max(most, worker.slots_in_use)
        return {}

    workshop.behaviours = {f"s{n}": noting for n in range(1, 5)}
    tasks = [await engine.create(chain(4)) for _ in range(10)]
    await until(lambda: complete(engine, *tasks))
    assert 1 <= most <= 2
    assert worker.slots_in_use == 0


async def test_a_step_that_cannot_be_completed_keeps_its_good_result(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    """What fails is not the result but what would follow from it: that is poison, which orchestration finds."""
    await refuse(
        engine, "tasker.workflow_steps", "OLD.name = 's2' AND NEW.state = 'enqueued'", event="UPDATE"
    )
    good = await engine.create(chain(1) | {"name": "good"})
    bad = await engine.create(chain(2))
    await start_worker(chain(2), chain(1) | {"name": "good"})

    async def recorded() -> bool:
        return len(await engine.sql("SELECT 1 FROM tasker.step_results WHERE success")) == 2

    await until(recorded)
    assert await engine.state(good) == "complete"
    assert (await engine.states(bad))["s1"] == "enqueued_for_orchestration"
    assert await engine.messages(RESULTS_QUEUE) == 1
    await engine.process()
    assert [(queue, name) for queue, name, _ in await poison(engine)] == [(RESULTS_QUEUE, "s1")]
    assert await engine.state(bad) == "blocked_by_failures"
