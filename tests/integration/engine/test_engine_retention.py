"""Old tasks go, with everything that hangs on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from tasker.config.settings import OrchestrationSettings
from tasker.messaging.queues import RESULTS_QUEUE
from tasker.orchestration.engine.orchestrator import Orchestrator
from tasker.orchestration.loops.retention import Retention
from tasker.persistence.operations.retain import delete_old_poison
from tests.integration.schema.test_plans import explaining, grow  # noqa: F401 - a fixture
from tests.support.engine import Engine, chain, diamond
from tests.support.faults import refuse, send_by_hand
from tests.support.rivals import assert_history_is_whole, at_once, rival, start_blocked, until

DAY = 86_400
AGE = timedelta(days=90)
BEGINNING = UUID(int=0)


def _retention(engine: Engine, **more: Any) -> Retention:
    return Retention(engine.sessions, age=AGE, **more)


async def _walk(retention: Retention) -> int:
    """Tick until the walk is over; return how many ticks that took."""
    ticks = 1
    while await retention.tick() < 60:
        ticks += 1
    return ticks


async def _rows(engine: Engine, task: UUID | None = None) -> dict[str, int]:
    """Return how many rows of a task, or of all, each table holds that knows about tasks."""
    tables = await engine.sql(
        "SELECT c.table_name::text FROM information_schema.columns c JOIN information_schema.tables t "
        "USING (table_schema, table_name) WHERE c.table_schema = 'tasker' AND c.column_name = 'task_uuid' "
        "AND t.table_type = 'BASE TABLE'"
    )
    found = {}
    for (table,) in tables:
        query = f"SELECT count(*) FROM tasker.{table} WHERE task_uuid = coalesce(%s, task_uuid)"
        ((found[table],),) = await engine.sql(query, task)
    return found


async def _tasks(engine: Engine) -> set[UUID]:
    return {task for (task,) in await engine.sql("SELECT task_uuid FROM tasker.tasks")}


async def _add_entry(engine: Engine, task: UUID, status: str) -> None:
    await engine.database.execute(
        "INSERT INTO tasker.tasks_dlq (dlq_entry_uuid, task_uuid, original_state, dlq_reason, dlq_timestamp, "
        "resolution_status, task_snapshot, created_at, updated_at) VALUES (gen_random_uuid(), %s, 'error', "
        "'manual_dlq', tasker.now(), %s, '{}', tasker.now(), tasker.now())",
        (task, status),
    )


async def _rich(engine: Engine, order: int) -> UUID:
    """Create a task with something in every table, and end it."""
    task = await engine.create(diamond() | {"identity_strategy": "strict"}, {"order": order})
    await engine.fail(*await engine.claim())
    await engine.process()
    await engine.move_clock(60)
    await engine.timers.tick()
    (running,) = await engine.claim()
    await _add_entry(engine, task, "manually_resolved")
    garbled = await send_by_hand(
        engine, RESULTS_QUEUE, {"v": 1, "task_uuid": str(task), "step_uuid": "garbled"}
    )
    assert await engine.orchestration.record_poison(RESULTS_QUEUE, garbled, "ValueError: garbled")
    # What an expired lease looks like whose step was moved on by hand.
    assert (await engine.operators.cancel(task)).success
    await engine.database.execute(
        "INSERT INTO tasker.step_leases (task_uuid, step_uuid, lease_token, worker_uuid, attempt, expires_at) "
        "VALUES (%s, %s, gen_random_uuid(), gen_random_uuid(), 2, tasker.now())",
        (task, running.step_uuid),
    )
    return task


async def test_everything_of_an_old_task_goes_and_nothing_else(any_engine: Engine) -> None:
    old = await _rich(any_engine, 1)
    of_old = await _rows(any_engine, old)
    assert all(of_old.values()), f"the test has to put something into each table: {of_old}"
    await any_engine.move_clock(90 * DAY)
    young = await _rich(any_engine, 2)
    young_rows = await _rows(any_engine, young)
    with capture_logs() as logs:
        assert await _walk(_retention(any_engine)) == 1
    assert not any((await _rows(any_engine, old)).values())
    assert await _rows(any_engine) == young_rows
    (log,) = logs
    assert (log["event"], log["tasks"]) == ("old_tasks_deleted", 1)
    assert log["rows"] | {"tasks": 1} == of_old


async def test_a_task_stays_until_it_is_old_enough(any_engine: Engine) -> None:
    await any_engine.freeze_clock()
    task = await any_engine.create(chain(1))
    await any_engine.move_clock(100 * DAY)  # its age counts from its end, not from its beginning
    await any_engine.run(task)
    await any_engine.move_clock(90 * DAY - 1)
    await _walk(_retention(any_engine))
    assert await _tasks(any_engine) == {task}
    await any_engine.move_clock(1)
    await _walk(_retention(any_engine))
    assert await _tasks(any_engine) == set()


@pytest.mark.parametrize("state", ["complete", "cancelled", "error"])
async def test_it_does_not_matter_how_a_task_ended(engine: Engine, state: str) -> None:
    task = await engine.create(chain(2))
    if state == "complete":
        await engine.run(task)
    elif state == "cancelled":
        await engine.operators.cancel(task)
    else:
        await engine.database.execute("UPDATE tasker.tasks SET state = 'error', terminal_at = tasker.now()")
    await engine.move_clock(91 * DAY)
    await _walk(_retention(engine))
    assert await _tasks(engine) == set()


async def test_what_is_not_over_stays_however_old_it_is(engine: Engine) -> None:
    template = await engine.register(chain(2))
    blocked = (await engine.request(template)).task.task_uuid
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    running = (await engine.request(template)).task.task_uuid
    await engine.move_clock(1000 * DAY)
    before = await _rows(engine)
    await _walk(_retention(engine))
    assert await _rows(engine) == before
    assert await _tasks(engine) == {blocked, running}
    await engine.run(running)


async def test_a_pending_dlq_entry_keeps_its_task(engine: Engine) -> None:
    pending, resolved = await engine.create(chain(1)), await engine.create(chain(1))
    for task in (pending, resolved):
        await engine.run(task)
    await _add_entry(engine, pending, "pending")
    await _add_entry(engine, pending, "cancelled")  # an earlier one
    await _add_entry(engine, resolved, "permanently_failed")
    await engine.move_clock(91 * DAY)
    await _walk(_retention(engine))
    assert await _tasks(engine) == {pending}
    assert (await _rows(engine))["tasks_dlq"] == 2
    await engine.database.execute("UPDATE tasker.tasks_dlq SET resolution_status = 'manually_resolved'")
    await _walk(_retention(engine))
    assert not any((await _rows(engine)).values())


_REOPEN = (
    "UPDATE tasker.tasks SET state = 'pending', terminal_at = NULL, completed_at = NULL WHERE task_uuid = %s"
)
_ADD_ENTRY = (
    "INSERT INTO tasker.tasks_dlq (dlq_entry_uuid, task_uuid, original_state, dlq_reason, dlq_timestamp, "
    "task_snapshot, created_at, updated_at) "
    "VALUES (gen_random_uuid(), %s, 'complete', 'manual_dlq', now(), '{}', now(), now())"
)


@pytest.mark.own_database
@pytest.mark.parametrize("change", [_REOPEN, _ADD_ENTRY], ids=["reopened", "entered"])
async def test_what_changes_between_the_look_and_the_lock_counts(engine: Engine, change: str) -> None:
    task = await engine.create(chain(1))
    await engine.run(task)
    await engine.move_clock(91 * DAY)
    for statement in (  # it has looked, and stops before it locks
        "ALTER FUNCTION tasker.without_pending_entry_v1 RENAME TO looked",
        "CREATE FUNCTION tasker.without_pending_entry_v1(p_tasks uuid[]) RETURNS uuid[] LANGUAGE plpgsql AS $$ "
        "DECLARE v_tasks uuid[] := tasker.looked(p_tasks); "
        "BEGIN PERFORM pg_advisory_xact_lock(7); RETURN v_tasks; END $$",
    ):
        await engine.database.execute(statement)
    async with rival(engine) as other:
        await other.sql("SELECT pg_advisory_xact_lock(7)")
        deleting = await start_blocked(engine, engine.delete_old_tasks(10, AGE, BEGINNING))
        await other.sql(change, task)
        await other.commit()
    assert (await deleting).rows == {}
    assert await _tasks(engine) == {task}


async def test_its_poison_goes_with_a_task_however_young(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.run(task)
    await engine.move_clock(91 * DAY)
    garbled = {"task_uuid": str(task), "step_uuid": "garbled"}
    msg_id = await send_by_hand(engine, RESULTS_QUEUE, garbled)
    await engine.orchestration.record_poison(RESULTS_QUEUE, msg_id, "ValueError: garbled")
    deleted = await engine.delete_old_tasks(10, AGE, BEGINNING)
    assert deleted.rows["poison_messages"] == 1


async def test_its_identity_may_be_used_again(engine: Engine) -> None:
    template = await engine.register(chain(1))
    first = await engine.request(template, idempotency_key="order-7")
    await engine.run(first.task.task_uuid)
    assert (await engine.request(template, idempotency_key="order-7")).already_existed
    await engine.move_clock(91 * DAY)
    await _walk(_retention(engine))
    again = await engine.request(template, idempotency_key="order-7")
    assert not again.already_existed
    assert again.task.task_uuid != first.task.task_uuid


# Groups and walks


async def _done(engine: Engine, count: int, document: dict[str, Any] | None = None) -> list[UUID]:
    template = await engine.register(document or chain(2))
    tasks = [(await engine.request(template)).task.task_uuid for _ in range(count)]
    for task in tasks:
        await engine.run(task)
    return tasks


async def test_a_walk_goes_on_group_by_group_and_begins_anew(engine: Engine) -> None:
    done = await _done(engine, 7)
    await engine.database.execute(  # the third and fourth are not over yet
        "UPDATE tasker.tasks SET state = 'pending', terminal_at = NULL, completed_at = NULL "
        "WHERE task_uuid = ANY (%s)",
        (done[2:4],),
    )
    await engine.move_clock(91 * DAY)
    retention = _retention(engine, group_size=2)
    waits = [await retention.tick() for _ in range(4)]
    assert waits == [0.1, 0, 0.1, 60]  # the second group found nothing to delete
    assert await _tasks(engine) == set(done[2:4])
    await engine.database.execute("UPDATE tasker.tasks SET state = 'cancelled', terminal_at = created_at")
    await _walk(retention)
    assert await _tasks(engine) == set()


async def test_a_walk_reads_nothing_that_is_too_young(engine: Engine) -> None:
    await _done(engine, 3)
    deleted = await engine.delete_old_tasks(1, AGE, BEGINNING)
    assert (deleted.last_uuid, deleted.rows) == (None, {})


async def test_a_task_that_somebody_has_locked_is_left_for_the_next_walk(engine: Engine) -> None:
    done = await _done(engine, 3)
    await engine.move_clock(91 * DAY)
    retention = _retention(engine)
    async with rival(engine) as other:
        await other.lock("tasks", done[1])
        await at_once(_walk(retention))
        assert await _tasks(engine) == {done[1]}
    await _walk(retention)
    assert await _tasks(engine) == set()


async def test_orchestrators_share_the_work_without_doing_it_twice(database_url: str) -> None:
    async with Engine(database_url) as one, Engine(database_url) as two:
        done = await _done(one, 40, chain(1))
        await one.move_clock(91 * DAY)
        async with rival(one) as other:
            ((last, rows),) = await other.sql(
                "SELECT last_uuid, deleted FROM tasker.delete_old_tasks_v1(15, %s, %s)", AGE, BEGINNING
            )
            assert (last, rows["tasks"]) == (done[14], 15)
            ticks = await at_once(_walk(_retention(two, group_size=15)))
            assert ticks == 3
            await other.rollback()
        assert await _tasks(one) == set(done[:15])  # what it found locked it passed over
        counts = [0, 0]

        async def walk(number: int, engine: Engine) -> None:
            after = BEGINNING
            while True:
                deleted = await engine.delete_old_tasks(2, AGE, after)
                counts[number] += deleted.rows.get("tasks", 0)
                if deleted.last_uuid is None:
                    return
                after = deleted.last_uuid

        async def none_left() -> bool:
            await asyncio.gather(walk(0, one), walk(1, two))
            return not await _tasks(one)

        await until(none_left, "old tasks stay")
        assert sum(counts) == 15
        assert not any((await _rows(one)).values())


async def test_a_group_is_all_or_nothing(engine: Engine) -> None:
    await _done(engine, 3)
    await engine.move_clock(91 * DAY)
    before = await _rows(engine)
    await refuse(engine, "tasker.tasks", "true", event="DELETE")
    retention = _retention(engine)
    with pytest.raises(psycopg.errors.RaiseException):
        await retention.tick()
    assert await _rows(engine) == before


# A late worker


async def test_a_claim_that_is_under_way_is_waited_for_and_its_lease_goes_too(engine: Engine) -> None:
    task = await engine.create(chain(2))
    step = (await engine.steps(task))["s1"].step_uuid
    await engine.database.execute("UPDATE tasker.tasks SET state = 'error', terminal_at = tasker.now()")
    await engine.move_clock(91 * DAY)
    async with rival(engine) as other:
        assert await other.claim(task, step) == [step]
        deleting = await start_blocked(engine, engine.delete_old_tasks(10, AGE, BEGINNING))
        await other.commit()
    assert (await deleting).rows["step_leases"] == 1
    assert not any((await _rows(engine)).values())
    assert await engine.claim() == []  # the message of a step that is gone


async def test_a_result_of_a_task_that_is_gone_comes_too_late(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.database.execute("UPDATE tasker.tasks SET state = 'error', terminal_at = tasker.now()")
    await engine.move_clock(91 * DAY)
    await _walk(_retention(engine))
    assert await _tasks(engine) == set()
    assert await engine.renew([step.lease]) == {step.step_uuid}
    assert await engine.succeed(step) == set()
    assert not any((await _rows(engine, task)).values())


# Poison


async def test_old_poison_goes_unless_its_task_is_still_there(engine: Engine) -> None:
    task = (await engine.request(await engine.register(chain(1)))).task.task_uuid

    async def record(named: UUID | None) -> None:
        message = {"task_uuid": str(named), "step_uuid": "garbled"} if named else {}
        msg_id = await send_by_hand(engine, RESULTS_QUEUE, message)
        await engine.orchestration.record_poison(RESULTS_QUEUE, msg_id, "ValueError: garbled")

    for named in (task, None, uuid4()):
        await record(named)
    await engine.move_clock(91 * DAY)
    await record(None)
    with capture_logs() as logs:
        await _walk(_retention(engine))
    left = await engine.sql("SELECT task_uuid FROM tasker.poison_messages ORDER BY poison_id")
    assert left == [(task,), (None,)]
    assert [(log["tasks"], log["rows"]) for log in logs] == [(0, {"poison_messages": 2})]


# Beside the work, by key, and only where wanted


async def test_what_runs_meanwhile_is_not_disturbed(engine: Engine) -> None:
    await _done(engine, 10)
    await engine.move_clock(91 * DAY)
    template = await engine.register(chain(2))
    new = [(await engine.request(template)).task.task_uuid for _ in range(10)]
    retention = _retention(engine, group_size=1)
    for task in new:
        await retention.tick()
        await engine.run(task)
    assert await _tasks(engine) == set(new)
    await assert_history_is_whole(engine)


@pytest.mark.own_database
async def test_its_plans_do_not_depend_on_statistics(
    any_database_url: str,
    explaining: Callable[[], Any],  # noqa: F811
) -> None:
    await grow(any_database_url, 300)
    async with explaining() as (engine, plans):
        await engine.move_clock(60)
        await engine.timers.tick()
        await engine.database.execute(
            "UPDATE tasker.tasks SET state = 'cancelled', terminal_at = tasker.now() WHERE task_uuid < "
            "(SELECT task_uuid FROM tasker.tasks ORDER BY task_uuid OFFSET 50 LIMIT 1)"
        )
        await engine.move_clock(91 * DAY)
        plans.used.clear()
        deleted = await engine.delete_old_tasks(20, AGE, BEGINNING)
        assert deleted.rows["tasks"] == 20
        await delete_old_poison(engine.sessions, 20, AGE)
        assert any("DELETE FROM tasker.step_results" in statement for statement, _ in plans.used)
        assert plans.flaws() == set()


@pytest.mark.parametrize(("days", "runs"), [(90, True), (0, False)])
async def test_an_orchestrator_keeps_everything_if_told_so(database_url: str, days: int, runs: bool) -> None:
    settings = OrchestrationSettings.load(DATABASE_URL=database_url, TASKER_RETENTION_DAYS=days)
    orchestrator = Orchestrator(settings)
    assert ("retention" in [runner.name for runner in orchestrator._runners]) is runs
