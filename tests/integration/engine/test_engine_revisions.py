"""Dynamic steps follow the revision their task runs on, and the environment it was created in."""

from __future__ import annotations

import pytest

from tasker.domain.templates.document import digest
from tasker.domain.templates.validation import parse
from tasker.orchestration.engine.revisions import PlannedRevisions
from tasker.persistence.operations.register import register_template
from tests.support.dynamic import Hands, assert_each_complete_once, decide, edges, split, workflow
from tests.support.engine import Engine, success

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


@pytest.mark.parametrize("knows", [True, False], ids=["its own", "older than the column"])
async def test_steps_that_come_later_follow_the_environment_of_their_task(
    engine: Engine, database_url: str, knows: bool
) -> None:
    """An orchestrator of another environment adds them; a task that knows of none takes that one's."""
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
    if not knows:
        await engine.sql("UPDATE tasker.tasks SET environment = NULL RETURNING 1")
    await hands.submit("b", split(1))
    async with Engine(database_url, environment="production") as production:
        await production.process()
    step = await hands.take("w_001")
    assert step.inputs is not None
    assert (step.timeout_seconds, step.inputs["level"], step.inputs["kept"]) == (
        (5, 1, True) if knows else (50, 2, True)
    )
    await engine.succeed(step)
    await engine.process()
    await hands.finish()
    await assert_each_complete_once(engine, task)
    assert await edges(engine, task, "c") == {"w_001": "worker_to_convergence"}


async def test_tasks_of_two_environments_grow_together_each_by_its_own(
    engine: Engine, database_url: str
) -> None:
    """What a decision chooses has the configuration and the retry rules of the environment of its task."""
    overrides = {
        name: {
            "steps": [{"name": "a", "retry": {"max_attempts": most}, "handler": {"initialization": where}}]
        }
        for name, most, where in (("test", 2, {"server": "one"}), ("production", 7, {"server": "two"}))
    }
    document = workflow("s", "d: decision < s", "a < d") | {"environments": overrides}
    ours = await engine.create(document)
    async with Engine(database_url, environment="production") as production:
        theirs = await production.create(document)
        await engine.succeed(*await engine.claim())
        await engine.process()
        first, second = await engine.claim()
        await engine.submit([success(first, decide("a")), success(second, decide("a"))])
        await production.process()
    grown = {step.task_uuid: (step.max_attempts, step.inputs) for step in await engine.claim()}
    assert grown == {ours: (2, {"server": "one"}), theirs: (7, {"server": "two"})}


async def test_orchestrators_of_the_release_before_still_read_what_they_know_of(engine: Engine) -> None:
    task = await engine.create(OLD)
    columns = "task_uuid, template_digest, step_uuid, name, template_step_name, state, ancestor_uuids"
    before, now = [
        await engine.sql(f"SELECT {columns} FROM tasker.task_steps_{version}(ARRAY[%s::uuid])", task)
        for version in ("v1", "v2")
    ]
    assert len(before) == 2
    assert before == now


async def test_a_revision_is_read_and_planned_once(engine: Engine) -> None:
    template = await engine.register(OLD)
    revisions = PlannedRevisions(engine.database, "here").of("elsewhere")
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
        await PlannedRevisions(engine.database, "test").of().get(bytes.fromhex("00ff" * 16))
