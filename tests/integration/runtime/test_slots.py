"""How many steps a worker runs at once, and what a slot waits for."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any
from uuid import UUID

from tasker.persistence.connections import Row
from tasker.worker import HandlerRegistry, StepContext
from tests.integration.runtime.conftest import StartWorker
from tests.support.engine import Engine, chain
from tests.support.waiting import until, within
from tests.support.workshop import Gate, Workshop


async def count(engine: Engine, state: str) -> int:
    """Return how many steps are in a state."""
    ((found,),) = await engine.sql("SELECT count(*) FROM tasker.workflow_steps WHERE state = %s", state)
    return int(found)


def started(workshop: Workshop, steps: set[UUID]) -> bool:
    """Tell whether handlers were called for all these steps."""
    return steps <= {context.step_uuid for context in workshop.calls}


async def all_complete(engine: Engine, *tasks: UUID) -> bool:
    """Process what was submitted; tell whether the tasks are complete."""
    await engine.process()
    return {await engine.state(task) for task in tasks} == {"complete"}


async def test_slots_are_never_exceeded_and_nothing_is_claimed_unstarted(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    running: set[UUID] = set()
    most = 0
    doors = asyncio.Semaphore(0)

    async def behind_a_door(context: StepContext) -> dict[str, Any]:
        nonlocal most
        running.add(context.step_uuid)
        most = max(most, len(running))
        await doors.acquire()
        running.remove(context.step_uuid)
        return {}

    workshop.behaviours["s1"] = behind_a_door
    tasks = [await engine.create(chain(1)) for _ in range(20)]
    worker = await start_worker(chain(1), slots=4)
    await until(lambda: len(running) == 4)
    while not await all_complete(engine, *tasks):
        ((claimed,),) = await engine.sql("SELECT array_agg(step_uuid) FROM tasker.step_leases")
        # Each claimed step has a slot and starts at once.
        await until(partial(started, workshop, set(claimed or ())))
        assert worker.slots_in_use <= 4
        doors.release()
    assert most == 4
    assert len(workshop.calls) == 20


async def test_a_full_worker_leaves_the_rest_to_others(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gate = workshop.behaviours["s1"] = Gate()
    tasks = [await engine.create(chain(1)) for _ in range(3)]
    await start_worker(chain(1), slots=1)
    await within(gate.entered.wait())
    assert (await count(engine, "in_progress"), await engine.messages("worker_test_queue")) == (1, 2)
    other = Workshop()
    await start_worker(chain(1), slots=5, registry=other.registry)
    await until(lambda: len(other.calls) == 2)
    gate.opened.set()
    await until(lambda: all_complete(engine, *tasks))
    assert len(workshop.calls) == 1


async def test_sync_handlers_run_side_by_side_in_threads(engine: Engine, start_worker: StartWorker) -> None:
    meeting = threading.Barrier(3, timeout=10)
    names = []

    def work(context: StepContext) -> dict[str, Any]:
        names.append(threading.current_thread().name)
        meeting.wait()
        return {}

    registry = HandlerRegistry()
    registry.register(work, name="work")
    tasks = [await engine.create(chain(1)) for _ in range(3)]
    await start_worker(chain(1), slots=3, registry=registry)
    await until(lambda: all_complete(engine, *tasks))
    assert len(set(names)) == 3
    assert threading.main_thread().name not in names


async def test_async_handlers_wait_side_by_side(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    meeting = asyncio.Barrier(10)

    async def meet(context: StepContext) -> dict[str, Any]:
        await meeting.wait()
        return {}

    workshop.behaviours["s1"] = meet
    tasks = [await engine.create(chain(1)) for _ in range(10)]
    await start_worker(chain(1))
    await until(lambda: all_complete(engine, *tasks))


async def test_a_thread_that_timed_out_keeps_its_slot_until_it_ends(
    engine: Engine, start_worker: StartWorker
) -> None:
    entered, leave = threading.Event(), threading.Event()
    calls = []

    def work(context: StepContext) -> dict[str, Any]:
        calls.append(context)
        entered.set()
        leave.wait(30)
        return {"late": True}

    registry = HandlerRegistry()
    registry.register(work, name="work")
    document = chain(1, retry={"max_attempts": 1})
    first, second = await engine.create(document), await engine.create(document)
    try:
        worker = await start_worker(document, slots=1, handler_timeout_seconds=0.2, registry=registry)
        await until(entered.is_set)
        await until(lambda: _one_failed(engine))
        assert not leave.is_set()
        assert calls[0].cancelled.reason == "timeout"
        # The thread goes on, so does its slot: the other step stays where it is.
        assert (worker.slots_in_use, len(calls)) == (1, 1)
        assert await count(engine, "enqueued") == 1
    finally:
        leave.set()
    await until(lambda: len(calls) == 2)
    await until(lambda: worker.slots_in_use == 0)

    async def both_submitted() -> list[Row]:
        rows = await engine.sql(
            "SELECT success, error ->> 'error_type' FROM tasker.step_results ORDER BY success"
        )
        return rows if len(rows) == 2 else []

    results = await until(both_submitted)
    await engine.process()
    assert results == [(False, "handler_timeout"), (True, None)]  # the late result was not read
    assert {await engine.state(first), await engine.state(second)} == {"blocked_by_failures", "complete"}


async def execution_seconds(engine: Engine) -> float:
    """Return how long the one result took, from claim to record."""
    ((seconds,),) = await engine.sql(
        "SELECT extract(epoch FROM r.recorded_at - s.last_attempted_at)::float FROM tasker.step_results r "
        "JOIN tasker.workflow_steps s USING (task_uuid, step_uuid)"
    )
    return float(seconds)


async def _one_failed(engine: Engine) -> bool:
    await engine.process()
    return await count(engine, "error") == 1


async def test_a_handler_that_overstays_its_template_time_fails(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    """`timeout_seconds: 1` fails a handler that never ends, when it has had its second."""
    gate = Gate()
    workshop.behaviours["s1"] = gate
    document = chain(1, timeout_seconds=1, retry={"max_attempts": 1})
    await start_worker(document)
    task = await engine.create(document)

    async def blocked() -> bool:
        await engine.process()
        return await engine.state(task) == "blocked_by_failures"

    await until(blocked)
    assert gate.cancelled.is_set()
    assert await execution_seconds(engine) >= 1
    ((error,),) = await engine.sql("SELECT error FROM tasker.step_results WHERE task_uuid = %s", task)
    assert (error["error_type"], error["retryable"]) == ("handler_timeout", True)
    assert "1 s" in error["message"]
