"""A database for tests is empty again after each of them, and goes in the end."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tasker.persistence.scratch import MOVE_CLOCK, ScratchDatabase
from tasker.testing import Engine, fail_n_times
from tests.support.engine import chain

#: The tables of the engine and of the queues.
_TABLES = """
    SELECT schemaname || '.' || tablename FROM pg_tables
    WHERE schemaname = 'tasker' OR (schemaname = 'pgmq' AND tablename LIKE 'q\\_%')
"""


@pytest.fixture
def scratch(embedded_url: str) -> Iterator[ScratchDatabase]:
    database = ScratchDatabase(embedded_url)
    yield database
    database.drop()


def rows(url: str) -> dict[str, int]:
    """Return how many rows the tables have that have any."""
    with psycopg.connect(url) as connection:
        tables = [name for (name,) in connection.execute(_TABLES)]
        counts = {
            name: connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchall() for name in tables
        }
    return {name: count for name, [(count,)] in counts.items() if count}


def test_it_is_emptied_to_what_it_was(scratch: ScratchDatabase) -> None:
    before = rows(scratch.url)
    engine = Engine(scratch)
    engine.register_handlers(fail_n_times(1, name="work"))
    engine.register_templates(chain(2))
    engine.run("test/workflow")
    engine.create("test/workflow")
    assert {"tasker.tasks", "tasker.workflow_steps", "pgmq.q_worker_test_queue"} <= rows(scratch.url).keys()
    engine.close()
    scratch.empty()
    assert rows(scratch.url) == before


def test_its_clock_is_set_right(scratch: ScratchDatabase) -> None:
    def seconds_ahead() -> float:
        with psycopg.connect(scratch.url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT extract(epoch FROM tasker.now() - clock_timestamp())::float8"
            ).fetchone()
        assert row is not None
        return float(row[0])

    with psycopg.connect(scratch.url, autocommit=True) as connection:
        connection.execute(MOVE_CLOCK, (86_400,))
    assert round(seconds_ahead()) == 86_400
    scratch.empty()
    assert round(seconds_ahead()) == 0


def test_it_goes_whoever_is_connected_to_it(embedded_url: str) -> None:
    database = ScratchDatabase(embedded_url)
    with psycopg.connect(database.url) as connection:
        database.drop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(database.url)
