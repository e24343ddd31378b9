"""Databases for tests: made in a moment from nothing, emptied between tests, with a clock that can be moved."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict

from tasker.persistence.migrations import migrate

#: What the migrations fill. They fill no other table.
_NOT_EMPTIED: Final = ("clock", "schema_migrations", "schema_functions", "secrets")

#: Every session of the engine sees it move, at once.
_MOVABLE_CLOCK: Final = """
    CREATE TABLE tasker.clock (shift interval NOT NULL);
    INSERT INTO tasker.clock VALUES ('0');
    CREATE OR REPLACE FUNCTION tasker.now() RETURNS timestamptz LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED AS
    $$ BEGIN RETURN clock_timestamp() + (SELECT c.shift FROM tasker.clock c); END; $$;
"""

#: Moves it, by seconds.
MOVE_CLOCK: Final = "UPDATE tasker.clock SET shift = shift + make_interval(secs => %s)"


class ScratchDatabase:
    """A migrated database of its own on a server, whose clock can be moved.

    Attributes:
        url: Where it is.
    """

    def __init__(self, server: str) -> None:
        """Make it, which takes a second or two.

        Args:
            server: The URL of any database of the server, of a user who may make databases.
        """
        self.url = migrated(server)
        self._connection = psycopg.connect(self.url, autocommit=True)
        # Tables are emptied in any order.
        self._connection.execute("SET session_replication_role = replica")

    def empty(self) -> None:
        """Forget every task, template and message, and set the clock right. Nobody may be at work meanwhile."""
        for statement in emptying(self._connection):
            self._connection.execute(statement)

    def drop(self) -> None:
        """Remove it, whoever is connected to it."""
        self._connection.close()
        drop(self.url)


def migrated(server: str) -> str:
    """Make a migrated database with a clock that can be moved on the server of another one, and return its URL."""
    url = url_of(server, f"scratch_{uuid4().hex[:12]}")
    create(url)
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_MOVABLE_CLOCK)
    return url


def emptying(connection: Connection[Any]) -> list[sql.Composed]:
    """Return the statements that empty the tables and the queues there are now, and set the clock right.

    Deleting is faster than truncating where there is little to delete.
    """
    queues = [name for (name,) in connection.execute("SELECT queue_name FROM pgmq.meta")]
    tables = [
        sql.Identifier("tasker", name)
        for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'tasker'")
        if name not in _NOT_EMPTIED
    ]
    tables += [sql.Identifier("pgmq", prefix + name) for name in queues for prefix in ("q_", "a_")]
    return [
        *(sql.SQL("DELETE FROM {};").format(table) for table in tables),
        sql.SQL("UPDATE tasker.clock SET shift = '0' WHERE shift <> '0';").format(),
    ]


def create(url: str, *, template: str | None = None) -> None:
    """Make a database, in the place of one of this name.

    Args:
        url: Its URL.
        template: The URL of the database that it begins as a copy of; an empty one by default.
    """
    drop(url)
    source = sql.SQL("") if template is None else sql.SQL(" TEMPLATE {}").format(_name(template))
    with psycopg.connect(url_of(url, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(_name(url)) + source)


def drop(url: str) -> None:
    """Drop a database, whoever is connected to it."""
    with psycopg.connect(url_of(url, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(_name(url)))


def url_of(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    base, mark, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}{mark}{query}"


def _name(url: str) -> sql.Identifier:
    return sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
