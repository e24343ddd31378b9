"""The write set that decides the speed: what is indexed, what is referenced, what an update costs."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.support.engine import Engine, chain
from tests.support.waiting import until

#: The only columns of a step that no transaction changes and that an index may therefore hold.
FIXED = {"task_uuid", "step_uuid", "name"}

APPEND_ONLY = {
    "task_transitions",
    "workflow_step_transitions",
    "step_results",
    "workflow_step_edges",
    "task_identities",
    "poison_messages",
}


async def test_no_index_on_a_column_of_a_step_that_changes(any_engine: Engine) -> None:
    columns = await any_engine.sql(
        # In the key, in an expression, or in the predicate of a partial index.
        "SELECT DISTINCT i.indexrelid::regclass::text, a.attname FROM pg_index i JOIN pg_attribute a "
        "ON a.attrelid = i.indrelid AND a.attnum > 0 AND (a.attnum = ANY (i.indkey) OR EXISTS (SELECT FROM pg_depend d "
        "WHERE d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)) "
        "WHERE i.indrelid = 'tasker.workflow_steps'::regclass"
    )
    assert {column for _, column in columns} <= FIXED, columns


async def test_no_function_changes_what_is_indexed(any_engine: Engine) -> None:
    """A run with a retry, a failure and a success changes every column but those."""
    before = {row[0]: row[1:] for row in await _fixed(any_engine)}
    task = await any_engine.create(chain(2))
    after_create = {row[0]: row[1:] for row in await _fixed(any_engine)}
    await any_engine.fail(*await any_engine.claim())
    await any_engine.process()
    await any_engine.move_clock(60)
    await any_engine.timers.tick()
    await any_engine.run(task)
    assert before == {}
    assert {row[0]: row[1:] for row in await _fixed(any_engine)} == after_create


async def _fixed(engine: Engine) -> list[tuple[UUID, str, UUID]]:
    rows = await engine.sql("SELECT step_uuid, name, task_uuid FROM tasker.workflow_steps")
    return [(row[0], row[1], row[2]) for row in rows]


async def test_append_only_tables_refer_to_nothing(any_engine: Engine) -> None:
    rows = await any_engine.sql(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint "
        "WHERE contype = 'f' AND connamespace = 'tasker'::regnamespace"
    )
    assert not {table.removeprefix("tasker.") for table, _ in rows} & APPEND_ONLY
    # Nor does a task refer upwards: every create would lock the same few rows.
    assert "tasker.tasks" not in {table for table, _ in rows}


async def test_rows_that_change_leave_room_on_their_pages(any_engine: Engine) -> None:
    rows = await any_engine.sql(
        "SELECT c.relname, o.option_value::integer FROM pg_class c, pg_options_to_table(c.reloptions) o "
        "WHERE c.relnamespace = 'tasker'::regnamespace AND o.option_name = 'fillfactor'"
    )
    fillfactors = {str(table): int(fillfactor) for table, fillfactor in rows}
    assert {"tasks", "workflow_steps", "step_leases"} <= set(fillfactors)
    assert all(50 <= fillfactor < 100 for fillfactor in fillfactors.values())


@pytest.mark.both_ways
@pytest.mark.own_database
async def test_updates_of_steps_stay_heap_only(any_engine: Engine) -> None:
    async with Engine(any_engine.url, direct=any_engine.direct) as engine:
        for _ in range(40):
            await engine.run(await engine.create(chain(4)))
    # Its connections are closed, so what they did has been counted.

    async def counted() -> tuple[int, int] | None:
        ((updates, hot),) = await any_engine.sql(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'tasker.workflow_steps'::regclass"
        )
        # A step is enqueued (three of four after the creation), claimed, submitted and completed, or both at once.
        return (updates, hot) if updates >= 40 * (3 + (8 if any_engine.direct else 12)) else None

    updates, hot = await until(counted)
    assert hot >= 0.9 * updates
    tables = await any_engine.sql(
        "SELECT relname, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE schemaname = 'tasker'"
    )
    touched = {name for name, updated, deleted in tables if updated or deleted}
    assert not touched & APPEND_ONLY
