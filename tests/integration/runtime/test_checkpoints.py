"""A handler that yields checkpoints runs on from them, in the same attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tasker.domain.retry import LEASE
from tasker.worker import HandlerRegistry, StepContext, StepHandler, StepHandlerResult, checkpoint_yield
from tasker.worker.runtime.worker import Worker
from tests.integration.runtime.conftest import StartWorker
from tests.integration.runtime.stored import STYLES, Stored, recorded, run_to_the_end
from tests.support import outages
from tests.support.engine import Engine, chain
from tests.support.waiting import until, within
from tests.support.workshop import Gate, Workshop

#: Failed attempts run again at once.
DOCUMENT = chain(1, retry={"max_attempts": 3, "backoff": "none"})
TOTAL = 100


class Adder:
    """A behaviour: item i is worth i + 1; so many items to a checkpoint, and a gate before one of them.

    Attributes:
        seen: What each run was given: attempt, checkpoint, deadline.
    """

    def __init__(self, size: int = 25, *, gate_at: int | None = None) -> None:
        self.size = size
        self.gate = Gate()
        self._gate_at = gate_at
        self.seen: list[StepContext] = []

    async def __call__(self, context: StepContext) -> Any:
        self.seen.append(context)
        if (context.checkpoint_cursor or 0) == self._gate_at:
            await self.gate(context)
        return self.add(context)

    def add(self, context: StepContext) -> Any:
        place = context.checkpoint_cursor or 0
        total = context.accumulated_results or 0
        stop = min(place + self.size, TOTAL)
        total += sum(range(place + 1, stop + 1))
        return checkpoint_yield(stop, stop, total) if stop < TOTAL else {"total": total}

    @property
    def places(self) -> list[tuple[int, Any]]:
        """Attempt and cursor of each run."""
        return [(context.attempt, context.checkpoint_cursor) for context in self.seen]


async def checkpoint(engine: Engine) -> Any:
    """Return the checkpoint of the one step."""
    ((found,),) = await engine.sql("SELECT checkpoint FROM tasker.workflow_steps")
    return found


async def states(engine: Engine) -> list[str]:
    """Return the states that the one step has entered."""
    rows = await engine.sql("SELECT to_state FROM tasker.workflow_step_transitions ORDER BY sort_key")
    return [state for (state,) in rows]


async def lose(engine: Engine) -> None:
    """Let the lease run out, have the sweeper notice, and enqueue the step again."""
    await engine.sweeper.tick()
    await engine.move_clock(LEASE.total_seconds() + 1)
    await engine.sweeper.tick()
    await engine.process()
    await engine.timers.tick()


async def test_yields_change_neither_state_nor_attempts(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    adder = Adder(gate_at=75)
    workshop.behaviours["s1"] = adder
    task = await engine.create(DOCUMENT)
    before = await states(engine)
    worker = await start_worker(DOCUMENT)
    await within(adder.gate.entered.wait())

    stored = await checkpoint(engine)
    assert (stored["cursor"], stored["items_processed"], stored["accumulated_results"]) == (75, 75, 2850)
    assert set(stored) == {"cursor", "items_processed", "accumulated_results", "timestamp", "history"}
    assert [entry["cursor"] for entry in stored["history"]] == [25, 50, 75]
    assert stored["history"][-1]["timestamp"] == stored["timestamp"]
    assert (await engine.steps(task))["s1"].state == "in_progress"
    assert await states(engine) == [*before, "in_progress"]
    assert await engine.sql("SELECT * FROM tasker.step_results") == []
    assert worker.slots_in_use == 1

    adder.gate.opened.set()
    found = (await run_to_the_end(engine, task))["s1"]
    assert found.result == {"total": 5050}
    assert (await engine.steps(task))["s1"].attempts == found.attempt == 1
    assert adder.places == [(1, None), (1, 25), (1, 50), (1, 75)]
    assert await checkpoint(engine) is None  # cleared by the success
    await until(lambda: worker.slots_in_use == 0)


@pytest.mark.parametrize("style", STYLES)
async def test_every_style_of_handler_yields(engine: Engine, start_worker: StartWorker, style: str) -> None:

    registry = HandlerRegistry()
    registry.register(STYLES[style](Adder().add), name="work")
    task = await engine.create(DOCUMENT)
    await start_worker(DOCUMENT, registry=registry, slots=1)
    stored = (await run_to_the_end(engine, task))["s1"]
    assert (stored.result, stored.attempt) == ({"total": 5050}, 1)


async def test_each_run_has_its_whole_time(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    adder = workshop.behaviours["s1"] = Adder()
    task = await engine.create(DOCUMENT)
    await start_worker(DOCUMENT)
    await run_to_the_end(engine, task)
    deadlines = [context.deadline for context in adder.seen]
    assert None not in deadlines
    assert len(set(deadlines)) == 4
    assert deadlines == sorted(deadlines, key=str)
    assert len({id(context.cancelled) for context in adder.seen}) == 4
    assert len({context.idempotency_key for context in adder.seen}) == 1


async def test_a_failed_attempt_is_gone_on_with(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    adder = Adder()

    async def fails_once(context: StepContext) -> Any:
        result = await adder(context)
        if context.checkpoint_cursor == 50 and context.attempt == 1:
            raise ConnectionError("the line is down")
        return result

    workshop.behaviours["s1"] = fails_once
    task = await engine.create(DOCUMENT)
    await start_worker(DOCUMENT)
    await recorded(engine, task, results=1)
    assert (await checkpoint(engine))["cursor"] == 50
    await engine.timers.tick()
    stored = (await run_to_the_end(engine, task))["s1"]
    assert (stored.result, stored.attempt) == ({"total": 5050}, 2)
    assert adder.places == [(1, None), (1, 25), (1, 50), (2, 50), (2, 75)]


async def test_a_yield_renews_the_lease(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gates = [Gate(checkpoint_yield(25, 25)), Gate({})]
    workshop.behaviours["s1"] = lambda context: gates[0 if context.checkpoint is None else 1](context)
    await engine.create(DOCUMENT)
    await start_worker(DOCUMENT)
    await within(gates[0].entered.wait())
    await engine.move_clock(LEASE.total_seconds() * 0.9)
    gates[0].opened.set()
    await within(gates[1].entered.wait())
    ((fresh,),) = await engine.sql(
        "SELECT expires_at > tasker.now() + interval '20 seconds' FROM tasker.step_leases"
    )
    assert fresh
    gates[1].opened.set()


async def test_a_lost_lease_ends_the_run_at_the_next_yield(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gate = workshop.behaviours["s1"] = Gate(checkpoint_yield(25, 25))
    task = await engine.create(DOCUMENT)
    worker = await start_worker(DOCUMENT)
    await within(gate.entered.wait())
    await engine.sql("UPDATE tasker.step_leases SET lease_token = gen_random_uuid() RETURNING 1")
    gate.opened.set()
    await until(lambda: worker.slots_in_use == 0)
    assert len(workshop.calls) == 1
    assert len(worker._claims) == 0
    assert await checkpoint(engine) is None
    assert (await engine.states(task))["s1"] == "in_progress"  # the other one's business


async def test_a_cancelled_task_ends_the_run_at_the_next_yield(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gate = workshop.behaviours["s1"] = Gate(checkpoint_yield(25, 25))
    task = await engine.create(DOCUMENT)
    worker = await start_worker(DOCUMENT)
    await within(gate.entered.wait())
    await engine.operators.cancel(task, reason="no longer wanted")
    gate.opened.set()
    await until(lambda: worker.slots_in_use == 0)
    assert len(workshop.calls) == 1
    assert (await engine.states(task), await checkpoint(engine)) == ({"s1": "cancelled"}, None)


@pytest.mark.own_database
async def test_a_yield_waits_for_a_database_that_is_away(
    database_url: str, engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    adder = workshop.behaviours["s1"] = Adder(gate_at=25)
    task = await engine.create(DOCUMENT)
    worker = await start_worker(DOCUMENT)
    await within(adder.gate.entered.wait())
    async with outages.outage(database_url):
        adder.gate.opened.set()
        (running,) = worker._runner._running.values()
        done, _ = await asyncio.wait([running], timeout=0.5)
        assert not done
        assert adder.places[-1] == (1, 25)
    stored = (await run_to_the_end(engine, task))["s1"]
    assert (stored.result, stored.attempt) == ({"total": 5050}, 1)


UNSTORABLE: dict[str, Callable[[], StepHandlerResult]] = {
    "NUL": lambda: checkpoint_yield("a\x00b", 30),
    "NaN": lambda: checkpoint_yield(30, 30, {"mean": float("nan")}),
    "too large": lambda: checkpoint_yield(30, 30, "x" * (1024 * 1024)),
}


async def refused_checkpoint(engine: Engine, task: UUID, start_worker: StartWorker, handler: Any) -> Stored:
    """Run a task with a handler whose checkpoint is refused; return its step as it is then stored."""
    registry = HandlerRegistry()
    registry.register(handler, name="work")
    await start_worker(DOCUMENT, registry=registry)
    stored = (await recorded(engine, task, results=1))["s1"]
    assert (stored.error["error_type"], stored.error["retryable"]) == ("checkpoint_error", True)
    return stored


@pytest.mark.parametrize("what", UNSTORABLE)
@pytest.mark.parametrize("style", STYLES)
async def test_a_checkpoint_that_cannot_be_stored_fails_the_step(
    engine: Engine, start_worker: StartWorker, what: str, style: str
) -> None:
    def body(context: StepContext) -> Any:
        return checkpoint_yield(20, 20) if context.checkpoint is None else UNSTORABLE[what]()

    task = await engine.create(DOCUMENT)
    stored = await refused_checkpoint(engine, task, start_worker, STYLES[style](body))
    assert (stored.status, stored.state) == ("error", "waiting_for_retry")
    assert (await checkpoint(engine))["cursor"] == 20  # the one before it stays


@pytest.mark.own_database
async def test_a_checkpoint_that_postgresql_refuses_fails_the_step(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    async with engine.database.connection() as connection:
        await connection.execute("ALTER TABLE tasker.workflow_steps ADD CHECK (checkpoint IS NULL)")
    workshop.behaviours["s1"] = Adder()
    task = await engine.create(DOCUMENT)
    await start_worker(DOCUMENT)
    stored = (await recorded(engine, task, results=1))["s1"]
    assert (stored.error["error_type"], stored.error["retryable"]) == ("checkpoint_error", True)
    assert "CheckViolation" in stored.error["message"]


@pytest.mark.parametrize("style", STYLES)
async def test_a_yield_that_gets_no_further_fails_the_attempt(
    engine: Engine, start_worker: StartWorker, style: str
) -> None:
    runs: list[Any] = []

    def body(context: StepContext) -> Any:
        runs.append((context.attempt, context.checkpoint_cursor))
        return checkpoint_yield({"page": 2.5}, 20, {"runs": len(runs)})

    task = await engine.create(DOCUMENT)
    stored = await refused_checkpoint(engine, task, start_worker, STYLES[style](body))
    assert "advance the cursor, or raise RetryableError" in stored.error["message"]
    kept = await checkpoint(engine)
    assert (kept["cursor"], kept["accumulated_results"]) == ({"page": 2.5}, {"runs": 1})
    await engine.timers.tick()
    await recorded(engine, task, results=2)  # the next attempt knows the place, too
    assert runs == [(1, None), (1, {"page": 2.5}), (2, {"page": 2.5})]


# Draining


async def test_a_stopping_worker_runs_on_to_the_end(
    engine: Engine, workshop: Workshop, new_worker: Callable[..., Worker]
) -> None:
    adder = workshop.behaviours["s1"] = Adder(gate_at=25)
    task = await engine.create(DOCUMENT)
    worker = new_worker(DOCUMENT)
    await worker.start()
    await within(adder.gate.entered.wait())
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    adder.gate.opened.set()
    await within(stopping)
    await engine.process()
    assert await engine.state(task) == "complete"
    assert (await engine.steps(task))["s1"].attempts == 1


async def test_what_a_stopped_worker_had_no_time_for_is_gone_on_with_elsewhere(
    engine: Engine, workshop: Workshop, new_worker: Callable[..., Worker], start_worker: StartWorker
) -> None:
    first = workshop.behaviours["s1"] = Adder(gate_at=50)
    task = await engine.create(DOCUMENT)
    worker = new_worker(DOCUMENT, shutdown_timeout_seconds=0.2)
    await worker.start()
    await within(first.gate.entered.wait())
    with pytest.raises(TimeoutError):
        await worker.stop()
    await within(first.gate.cancelled.wait())  # it does not run on behind the scenes
    assert first.seen[-1].cancelled.reason == "the worker stopped"
    await lose(engine)
    second, other = Adder(), Workshop()
    other.behaviours["s1"] = second
    await start_worker(DOCUMENT, registry=other.registry)
    stored = (await run_to_the_end(engine, task))["s1"]
    assert (stored.result, stored.attempt) == ({"total": 5050}, 2)
    assert second.places == [(2, 50), (2, 75)]


class Configured(StepHandler):
    """A class that takes its configuration, with a checkpoint in between."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def call(self, context: StepContext) -> Any:
        return {"rate": self.config["rate"]} if context.checkpoint else checkpoint_yield("half", 1)


async def test_classes_are_made_anew_for_each_run(engine: Engine, start_worker: StartWorker) -> None:
    registry = HandlerRegistry()
    registry.register(Configured, name="work")
    document = chain(1, handler={"callable": "work", "initialization": {"rate": 7}})
    task = await engine.create(document)
    await start_worker(document, registry=registry)
    assert (await run_to_the_end(engine, task))["s1"].result == {"rate": 7}


async def test_a_worker_killed_after_a_yield_leaves_its_checkpoint(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    task = await engine.create(DOCUMENT)
    (step,) = await engine.claim()
    assert await engine.checkpoint(step.lease, '{"cursor": 50, "items_processed": 50}')
    await lose(engine)  # its worker is never heard of again
    adder = workshop.behaviours["s1"] = Adder()
    adder.size = 50
    await start_worker(DOCUMENT)
    await run_to_the_end(engine, task)
    assert adder.places == [(2, 50)]
    late = await engine.checkpoint(step.lease, '{"cursor": 75, "items_processed": 75}')
    assert late is None
