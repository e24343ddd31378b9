"""Databases of the tests: one that a process of the run keeps and wipes between tests, and new ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import uuid4

import psycopg
from psycopg import sql

from tasker.persistence.scratch import create, drop, emptying, url_of
from tests.support.warmth import WARMTH

#: Most tests' steps go through it; making it takes longer than the rest of a short test.
KEPT_QUEUE: Final = "worker_test_queue"

#: Ends what a test has left running, or half done; not the idle connections that are lent again.
_END_SESSIONS: Final = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND (pid <> ALL ({parked}::integer[]) OR state <> 'idle');
"""

#: Queues are tables and functions.
_DROP_QUEUES: Final = """
    DO $$
    DECLARE
        v_queue text;
    BEGIN
        FOR v_queue IN SELECT q.queue_name FROM pgmq.meta q WHERE q.queue_name <> ALL ({kept}) LOOP
            PERFORM pgmq.drop_queue(v_queue);
            EXECUTE format('DROP FUNCTION tasker.%I, tasker.%I', 'pop_from_' || v_queue, 'push_to_' || v_queue);
        END LOOP;
    END;
    $$;
"""

#: What a test may put there, with the triggers that call it.
_CLEAR_PUBLIC: Final = """
    DO $$
    DECLARE
        v_thing text;
    BEGIN
        FOR v_thing IN
            SELECT 'FUNCTION ' || p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
            UNION ALL
            SELECT 'SEQUENCE ' || c.oid::regclass FROM pg_class c
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S'
        LOOP
            EXECUTE format('DROP %s CASCADE', v_thing);
        END LOOP;
    END;
    $$;
"""

#: Enough to notice whoever alters, makes or drops a thing. Row counts and statistics do not show in it.
_SHAPE: Final = """
    SELECT
        (SELECT sum(hashtext(concat(p.proname, p.prosrc))::bigint) FROM pg_proc p
         WHERE p.pronamespace <> 'pg_catalog'::regnamespace),
        (SELECT sum(hashtext(concat(c.relname, c.relkind, c.relnatts, c.relchecks, c.reloptions))::bigint)
         FROM pg_class c WHERE c.relnamespace <> ALL (ARRAY['pg_catalog', 'pg_toast']::regnamespace[])),
        (SELECT sum(hashtext(concat(t.tgname, t.tgenabled))::bigint) FROM pg_trigger t WHERE NOT t.tgisinternal),
        (SELECT sum(hashtext(m::text)::bigint) FROM tasker.schema_migrations m),
        (SELECT count(*) FROM pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%temp\\_%'),
        (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
         WHERE d.datname = current_database())
"""


class KeptDatabase:
    """A migrated database for test after test.

    It is as the migrations left it, save that the queue of the namespace `test` is there already, and that its
    sequences go on.
    """

    def __init__(self, template: str) -> None:
        """Make it.

        Args:
            template: The URL of a migrated database that nobody is connected to.
        """
        self._template = template
        self.url = url_of(template, f"test_kept_{uuid4().hex[:12]}")
        self._make()
        WARMTH.keep(self.url)

    def wipe(self) -> None:
        """Return it to what it was.

        Raises:
            AssertionError: A test has changed more than rows. The database is made anew.
        """
        try:
            shape = self._wiped()
        except psycopg.Error as error:
            shape = error
        if shape != self._shape:
            self._connection.close()
            self._make()
            raise AssertionError(
                f"this test has changed more of its database than rows and the schema public; mark it `own_database`: "
                f"{shape} is not {self._shape}"
            )

    def drop(self) -> None:
        """Remove it."""
        self._connection.close()
        drop(self.url)

    def _make(self) -> None:
        create(self.url, template=self._template)
        self._connection = psycopg.connect(self.url, autocommit=True)
        self._connection.execute("SELECT tasker.ensure_queue_v1(%s)", (KEPT_QUEUE,))
        self._connection.execute("SET session_replication_role = replica")  # tables are wiped in any order
        queues = [name for (name,) in self._connection.execute("SELECT queue_name FROM pgmq.meta")]
        self._statements = sql.SQL("").join(
            [*emptying(self._connection), sql.SQL(_DROP_QUEUES).format(kept=sql.Literal(queues))]
        )
        ((self._now,),) = self._connection.execute(
            "SELECT pg_get_functiondef('tasker.now'::regproc)"
        ).fetchall()
        self._shape = self._connection.execute(_SHAPE).fetchone()

    def _wiped(self) -> Any:
        """Wipe and return the shape."""
        parked = sql.SQL(_END_SESSIONS).format(parked=sql.Literal(WARMTH.parked(self.url)))
        cursor = self._connection.execute(sql.SQL("").join([parked, self._statements, sql.SQL(_SHAPE)]))
        while cursor.nextset():
            pass
        shape = cursor.fetchone()
        if shape != self._shape:
            self._connection.execute(self._now)  # the clock may have stood still
            self._connection.execute(_CLEAR_PUBLIC)
            shape = self._connection.execute(_SHAPE).fetchone()
        return shape


@contextmanager
def kept(template: str) -> Iterator[KeptDatabase]:
    """Keep a copy of a database, and drop it at the end."""
    database = KeptDatabase(template)
    try:
        yield database
    finally:
        database.drop()


@contextmanager
def copied(template: str) -> Iterator[str]:
    """Make a copy of a database that nobody is connected to, and drop it at the end."""
    url = url_of(template, f"test_{uuid4().hex[:12]}")
    create(url, template=template)
    try:
        yield url
    finally:
        drop(url)


@contextmanager
def empty(server: str) -> Iterator[str]:
    """Make a database without our schema on the server of another one, and drop it at the end."""
    url = url_of(server, f"test_{uuid4().hex[:12]}")
    create(url)
    try:
        yield url
    finally:
        drop(url)
