"""A step that has lost several workers runs alone."""

from __future__ import annotations

import pytest

from tests.integration.runtime.conftest import StartWorker
from tests.support.engine import Engine, graph
from tests.support.waiting import until, within
from tests.support.workshop import Gate, Workshop

DOCUMENT = graph({"first": [], "second": [], "suspect": []})


async def make_suspect(engine: Engine, *names: str) -> None:
    await engine.sql(
        "UPDATE tasker.workflow_steps SET losses = 2 WHERE name = ANY (%s) RETURNING 1", list(names)
    )


async def company(engine: Engine, name: str) -> str | None:
    found = await engine.sql(
        "SELECT l.company FROM tasker.step_leases l JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) "
        "WHERE s.name = %s",
        name,
    )
    return str(found[0][0]) if found else None


async def test_a_suspect_begins_when_the_others_have_ended_and_keeps_others_away(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gates = {name: Gate() for name in ("first", "second", "suspect")}
    workshop.behaviours.update(gates)
    task = await engine.create(DOCUMENT)
    await make_suspect(engine, "suspect")
    worker = await start_worker(DOCUMENT)
    await within(gates["first"].entered.wait())
    await within(gates["second"].entered.wait())
    await until(lambda: is_in(engine, "suspect", "waiting"))
    gates["first"].opened.set()
    gates["second"].opened.set()
    await within(gates["suspect"].entered.wait())
    assert await company(engine, "suspect") == "alone"

    later = await engine.create(DOCUMENT)
    await until(lambda: is_waiting(engine, later))
    assert worker.slots_in_use == 1
    gates["suspect"].opened.set()

    async def both_done() -> bool:
        await engine.process()
        return [await engine.state(each) for each in (task, later)] == ["complete"] * 2

    await until(both_done)


async def test_suspects_run_one_after_the_other(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gates = {name: Gate() for name in ("first", "second")}
    workshop.behaviours.update(gates)
    await engine.create(DOCUMENT)
    await make_suspect(engine, "first", "second")
    await start_worker(DOCUMENT)
    running = [name for name in await one_of(engine) if name]
    (name,) = running
    (other,) = gates.keys() - {name}
    assert await company(engine, other) == "waiting"
    gates[name].opened.set()
    await within(gates[other].entered.wait())
    assert await company(engine, other) == "alone"
    gates[other].opened.set()


async def test_a_suspect_that_does_not_get_alone_in_time_runs_beside_others(
    engine: Engine, workshop: Workshop, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.worker.runtime.solitude._PATIENCE_SECONDS", 0.05)
    gates = {name: Gate() for name in ("first", "suspect")}
    workshop.behaviours.update(gates)
    await engine.create(DOCUMENT)
    await make_suspect(engine, "suspect")
    await start_worker(DOCUMENT)
    await within(gates["first"].entered.wait())
    await within(gates["suspect"].entered.wait())
    assert await company(engine, "suspect") == "beside"
    for gate in gates.values():
        gate.opened.set()


async def test_a_suspect_whose_lease_is_lost_while_it_waits_never_begins(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    gate = workshop.behaviours["first"] = Gate()
    await engine.create(DOCUMENT)
    await make_suspect(engine, "suspect")
    worker = await start_worker(DOCUMENT)
    await within(gate.entered.wait())
    await until(lambda: is_in(engine, "suspect", "waiting"))
    await engine.sql("UPDATE tasker.step_leases SET lease_token = gen_random_uuid() RETURNING 1")
    gate.opened.set()
    await until(lambda: worker.slots_in_use == 0)
    assert "suspect" not in [context.step_name for context in workshop.calls]


async def is_in(engine: Engine, name: str, wanted: str) -> bool:
    return await company(engine, name) == wanted


async def is_waiting(engine: Engine, task: object) -> bool:
    """Tell whether none of a task's steps was claimed although all of them are enqueued."""
    found = await engine.sql("SELECT DISTINCT state FROM tasker.workflow_steps WHERE task_uuid = %s", task)
    return found == [("enqueued",)]


async def one_of(engine: Engine) -> list[str]:
    """Wait until a suspect runs alone; return its name."""
    found: list[str] = []

    async def alone() -> bool:
        found[:] = [name for name in ("first", "second") if await company(engine, name) == "alone"]
        return bool(found)

    await until(alone)
    return found
