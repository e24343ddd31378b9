"""The state machines in SQL are those of `tasker.domain.states`, and docs/states.md shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tasker.domain.state_diagrams import states_document
from tasker.domain.states import STEP_NET_EDGES, TASK_NET_EDGES, StepState, TaskState

DOCUMENT = Path(__file__).parents[3] / "docs" / "states.md"

Connection = psycopg.Connection[Any]


@pytest.fixture
def connection(any_database_url: str) -> Iterator[Connection]:
    with psycopg.connect(any_database_url, autocommit=True) as connection:
        yield connection


def accepts(connection: Connection, statement: str, *params: object) -> bool:
    """Tell whether the database takes a statement; it is undone either way."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode(), params)
    except psycopg.errors.CheckViolation:
        return False
    return True


INSERTS = {
    "task_transitions": "INSERT INTO tasker.task_transitions "
    "(task_uuid, sort_key, from_state, to_state, created_at) VALUES (%s, 1, %s, %s, now())",
    "workflow_step_transitions": "INSERT INTO tasker.workflow_step_transitions "
    "(task_uuid, step_uuid, sort_key, from_state, to_state, attempt, created_at) "
    "VALUES (%s, gen_random_uuid(), 1, %s, %s, 0, now())",
}


@pytest.mark.parametrize(
    ("table", "states", "edges"),
    [
        ("task_transitions", TaskState, TASK_NET_EDGES),
        ("workflow_step_transitions", StepState, STEP_NET_EDGES),
    ],
)
def test_sql_stores_exactly_the_edges_of_the_machine(
    connection: Connection, table: str, states: type[StrEnum], edges: frozenset[tuple[Any, Any]]
) -> None:
    taken = {
        (source, target)
        for source, target in product(states, states)
        if accepts(connection, INSERTS[table], uuid4(), source.value, target.value)
    }
    assert sorted(taken) == sorted(edges)
    strangers = ("done", "", "Pending", "pending>complete", "pending,complete")
    for pair in (*product(strangers, states), *product(states, strangers)):
        assert not accepts(connection, INSERTS[table], uuid4(), *map(str, pair))


@pytest.mark.parametrize(
    ("column", "states"), [("tasks.state", TaskState), ("workflow_steps.state", StepState)]
)
def test_sql_knows_the_states_of_the_machine_and_no_other(
    connection: Connection, column: str, states: type[StrEnum]
) -> None:
    table, _, name = column.partition(".")
    ((definition,),) = connection.execute(
        "SELECT string_agg(pg_get_constraintdef(c.oid), ' ') FROM pg_attribute a JOIN pg_constraint c "
        "ON c.contypid = a.atttypid OR (c.conrelid = a.attrelid AND c.conkey = ARRAY[a.attnum] AND c.contype = 'c') "
        "WHERE a.attrelid = ('tasker.' || %s)::regclass AND a.attname = %s",
        (table, name),
    ).fetchall()
    named = set(re.findall(r"[{,']([a-z_]+)(?=[},'])", definition))
    assert named == {state.value for state in states}


def test_a_task_and_a_step_take_every_state_they_know(connection: Connection) -> None:
    task, step = _a_task(connection), uuid4()
    connection.execute(
        "INSERT INTO tasker.workflow_steps (task_uuid, step_uuid, name, template_step_name, step_type, handler, "
        "total_parents, unmet_parents, max_attempts, retryable, on_worker_lost, backoff, backoff_base_ms, "
        "max_backoff_ms, created_at, updated_at, ancestor_uuids) VALUES (%s, %s, 's', 's', 'standard', 'h', 0, 0, 3, "
        "true, 'retry', 'none', 0, 0, now(), now(), '{}')",
        (task, step),
    )
    for state in TaskState:
        update = "UPDATE tasker.tasks SET state = %s, terminal_at = CASE WHEN %s THEN now() END"
        assert accepts(connection, update, state.value, state.is_terminal)
        # Terminal or not, the row says so by its time.
        assert not accepts(connection, update, state.value, not state.is_terminal)
    for step_state in StepState:
        assert accepts(connection, "UPDATE tasker.workflow_steps SET state = %s", step_state.value)
    assert not accepts(connection, "UPDATE tasker.workflow_steps SET state = 'done'")
    assert not accepts(connection, "UPDATE tasker.tasks SET state = 'done'")


def _a_task(connection: Connection) -> UUID:
    task = uuid4()
    connection.execute(
        "INSERT INTO tasker.tasks (task_uuid, namespace_id, named_task_uuid, template_digest, correlation_id, "
        "initiator, source_system, reason, requested_at, created_at, updated_at) "
        "VALUES (%s, 1, gen_random_uuid(), %s, gen_random_uuid(), 'i', 's', 'r', now(), now(), now())",
        (task, bytes(32)),
    )
    return task


def test_docs_states_md_is_what_the_tables_say() -> None:
    wanted = states_document()
    if not DOCUMENT.exists() or DOCUMENT.read_text(encoding="utf-8") != wanted:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(wanted, encoding="utf-8")
        pytest.fail("docs/states.md was out of date and has been written anew; commit it")
