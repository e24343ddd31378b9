"""Dynamic steps follow the revision their task runs on, and the environment of the orchestrator that adds them."""

from __future__ import annotations

import pytest

from tasker.domain.templates.document import digest
from tasker.domain.templates.validation import parse
from tasker.orchestration.engine.revisions import planned_revisions
from tasker.persistence.operations.register import register_template
from tests.support.dynamic import Hands, assert_each_complete_once, decide, edges, split, workflow
from tests.support.engine import Engine

OLD = workflow("s", "d: decision < s", "a < d", "b < a", a={"retry": {"max_attempts": 2}})
NEW = workflow("s", "d: decision < s", "a < d", "other < a", a={"retry": {"max_attempts": 9}})


async def test_a_task_grows_by_its_own_revision(engine: Engine, database_url: str) -> None:
    hands = Hands(engine)
    old = await engine.create(OLD)
    await hands.succeed("s")
    await register_template(engine.database, parse(NEW), force_overwrite=True)
    await hands.succeed("d", result=decide("a"))
    assert set(await engine.states(old)) == {"s", "d", "a", "b"}
    assert (await hands.take("a")).max_attempts == 2

    async with Engine(database_url) as later:
        hands = Hands(later)
        new = await later.create(NEW)
        await hands.succeed("s")
        await hands.succeed("d", result=decide("a"))
        assert set(await later.states(new)) == {"s", "d", "a", "other"}
        assert (await hands.take("a")).max_attempts == 9


async def test_an_orchestrator_of_another_environment_plans_for_its_own(
    engine: Engine, database_url: str
) -> None:
    overrides = {
        "test": {"steps": [{"name": "ALL", "timeout_seconds": 5}]},
        "production": {
            "steps": [
                {"name": "ALL", "timeout_seconds": 50},
                {"name": "w", "handler": {"initialization": {"level": 2}}},
            ]
        },
    }
    document = workflow(
        "b: batchable", "w: batch_worker < b", "c: deferred_convergence < w",
        w={"handler": {"callable": "work", "initialization": {"level": 1, "kept": True}}},
    ) | {"environments": overrides}  # fmt: skip
    hands = Hands(engine)
    task = await engine.create(document)
    await hands.submit("b", split(1))
    async with Engine(database_url, environment="production") as production:
        await production.process()
    step = await hands.take("w_001")
    assert step.timeout_seconds == 50
    assert step.inputs is not None
    assert (step.inputs["level"], step.inputs["kept"]) == (2, True)
    await engine.succeed(step)
    await engine.process()
    await hands.finish()
    await assert_each_complete_once(engine, task)
    assert await edges(engine, task, "c") == {"w_001": "worker_to_convergence"}


async def test_a_revision_is_read_and_planned_once(engine: Engine) -> None:
    template = await engine.register(OLD)
    revisions = planned_revisions(engine.database, "elsewhere")
    revision = await revisions.get(digest(template))
    assert set(revision.steps) == {"s", "d", "a", "b"}
    planned = await engine.sql(
        "SELECT name FROM tasker.template_steps WHERE environment = 'elsewhere' ORDER BY position"
    )
    assert planned == [("s",), ("d",), ("a",), ("b",)]
    await engine.sql("DELETE FROM tasker.template_steps RETURNING 1")
    assert await revisions.get(digest(template)) is revision
    assert await engine.sql("SELECT 1 FROM tasker.template_steps") == []


async def test_a_revision_that_is_gone_is_named(engine: Engine) -> None:
    with pytest.raises(LookupError, match="00ff"):
        await planned_revisions(engine.database, "test").get(bytes.fromhex("00ff" * 16))
