"""What it takes to cause a race: sessions beside the engine's, knowing that one waits, and looking at what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from psycopg import AsyncConnection, OperationalError

from tasker.domain.uuids import uuid7
from tasker.persistence.connections import Row
from tasker.persistence.operations.create import TaskToCreate
from tests.support.engine import Engine

Returned = TypeVar("Returned")

#: Far beyond anything here takes; only a broken rule gets there.
PATIENCE_SECONDS = 20.0


#: A claim of steps by their ids, as a broker without PGMQ makes it.
CLAIM = (
    "SELECT step_uuid FROM tasker.claim_by_ids_v1"
    "(%s, %s, ARRAY['work'], gen_random_uuid(), gen_random_uuid(), '30 s', 65536)"
)


class Rival:
    """A session of its own, inside one transaction until the test ends it."""

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        self._connection = connection

    async def sql(self, query: str, *params: object) -> list[Row]:
        """Run a statement."""
        cursor = await self._connection.execute(query.encode(), params)
        return await cursor.fetchall() if cursor.description else []

    async def lock(self, table: str, uuid: UUID, strength: str = "FOR NO KEY UPDATE") -> None:
        """Lock the rows of a task (`tasks`) or a step (`workflow_steps`, `step_leases`)."""
        column = "task_uuid" if table == "tasks" else "step_uuid"
        rows = await self.sql(f"SELECT 1 FROM tasker.{table} WHERE {column} = %s {strength}", uuid)
        assert rows, f"no row of {table} has {uuid}"

    async def claim(self, task_uuid: UUID, step_uuid: UUID) -> list[UUID]:
        """Claim a step by its ids; return it, or nothing if it cannot be had."""
        rows = await self.sql(CLAIM, [task_uuid], [step_uuid])
        return [row[0] for row in rows]

    async def commit(self) -> None:
        """Commit; what follows is another transaction."""
        await self._connection.commit()

    async def rollback(self) -> None:
        """Give up what was done."""
        await self._connection.rollback()


@asynccontextmanager
async def rival(engine: Engine) -> AsyncIterator[Rival]:
    """Open a session on the engine's database; what it has not committed at the end is rolled back."""
    connection: AsyncConnection[Row] = await AsyncConnection.connect(engine.url)
    try:
        yield Rival(connection)
    finally:
        await (
            connection.rollback()
        )  # closing alone would leave the server its own time to let go of the locks
        await connection.close()


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look again and again until a condition holds."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await condition():  # noqa: ASYNC110 - the database sets no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE_SECONDS} s in vain: {what}") from None


async def sessions_waiting(engine: Engine) -> int:
    """Return how many sessions wait for a lock of another one."""
    ((count,),) = await engine.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(count)


async def service_sessions(engine: Engine, service: str, *, waiting: bool = False) -> int:
    """Return how many sessions the processes of a service have, or how many of those wait for a lock."""
    ((count,),) = await engine.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE %s AND (NOT %s OR wait_event_type = 'Lock')",
        f"tasker-{service}%",
        waiting,
    )
    return int(count)


async def start(engine: Engine, call: Coroutine[Any, Any, Returned]) -> asyncio.Task[Returned]:
    """Start a call and return once it is done or waits for a lock."""
    before = await sessions_waiting(engine)
    task = asyncio.create_task(call)

    async def arrived() -> bool:
        return task.done() or await sessions_waiting(engine) > before

    await until(arrived, "the call neither ends nor waits for a lock")
    return task


async def start_blocked(engine: Engine, call: Coroutine[Any, Any, Returned]) -> asyncio.Task[Returned]:
    """Start a call that must wait for a lock, and return once it does."""
    task = await start(engine, call)
    assert not task.done(), f"the call did not wait for the lock: {task.exception() or task.result()!r}"
    return task


async def at_once(call: Awaitable[Returned]) -> Returned:
    """Await a call that must not wait for any lock."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await call
    except TimeoutError:
        raise AssertionError("the call waited for a lock") from None


async def disconnect(engine: Engine, *, query_like: str = "%") -> int:
    """Kill the engine's sessions, or those whose last query looks like this; return how many there were."""
    async with rival(engine) as operator:
        killed = await operator.sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'test' AND query ILIKE %s",
            query_like,
        )
    return len(killed)


async def reconnect(engine: Engine) -> None:
    """Have the engine's pool replace the connections it lost."""

    async def whole() -> bool:
        try:
            await asyncio.gather(*(engine.sql("SELECT 1") for _ in range(8)))
        except OperationalError:
            return False
        return True

    await until(whole, "the pool does not connect again")


async def deadlocks(database_url: str) -> int:
    """Return how many deadlocks PostgreSQL broke in a database, once all its other sessions are gone."""
    connection: AsyncConnection[Row] = await AsyncConnection.connect(database_url, autocommit=True)
    async with connection:

        async def scalar(query: bytes) -> int:
            ((value,),) = await (await connection.execute(query)).fetchall()
            return int(value)

        # A session hands in its statistics when it ends.
        async def alone() -> bool:
            return not await scalar(
                b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                b"AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

        await until(alone, "sessions are still open")
        return await scalar(b"SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


async def duplicate_messages(engine: Engine, queue: str, copies: int = 1) -> None:
    """Send every message of a queue again, as a broker that delivers at least once may."""
    for _ in range(copies):
        await engine.sql(
            f"INSERT INTO pgmq.q_{queue} (vt, message) SELECT DISTINCT ON (message) clock_timestamp(), message "
            f"FROM pgmq.q_{queue} RETURNING 1"
        )


async def task_like_others(engine: Engine, identity: bytes | None = None) -> TaskToCreate:
    """Return another task of the template whose tasks exist already."""
    ((namespace_id, named_task_uuid, digest),) = await engine.sql(
        "SELECT namespace_id, named_task_uuid, template_digest FROM tasker.named_tasks"
    )
    return TaskToCreate(
        task_uuid=uuid7(),
        namespace_id=namespace_id,
        named_task_uuid=named_task_uuid,
        template_digest=digest,
        identity=identity,
        priority=0,
        correlation_id=uuid7(),
        parent_correlation_id=None,
        initiator="test",
        source_system="test",
        reason="test",
        tags=(),
        context="{}",
        step_uuids=(uuid7(),),
    )


async def now(engine: Engine) -> datetime:
    """Return the engine's clock."""
    ((clock,),) = await engine.sql("SELECT tasker.now()")
    assert isinstance(clock, datetime)
    return clock


async def assert_history_is_whole(engine: Engine, task_uuid: UUID | None = None) -> None:
    """Check that the transitions of every task and step lead without a gap from `pending` to its state."""
    for entity, key in (("task", "task_uuid"), ("workflow_step", "step_uuid")):
        table = "tasks" if entity == "task" else "workflow_steps"
        rows = await engine.sql(
            f"SELECT e.{key}, e.state, e.sort_key, h.keys, h.origins, h.ends FROM tasker.{table} e "
            "LEFT JOIN LATERAL (SELECT array_agg(t.sort_key ORDER BY t.sort_key) AS keys, "
            "array_agg(t.from_state ORDER BY t.sort_key) AS origins, "
            "array_agg(t.to_state ORDER BY t.sort_key) AS ends "
            f"FROM tasker.{entity}_transitions t WHERE t.{key} = e.{key}) h ON true "
            "WHERE e.task_uuid = coalesce(%s, e.task_uuid)",
            task_uuid,
        )
        assert rows
        for uuid, state, sort_key, keys, origins, ends in rows:
            walked = ["pending", *(ends or [])]
            assert (keys or []) == list(range(1, sort_key + 1)), f"{entity} {uuid}: gaps in {keys}"
            assert (origins or []) == walked[:-1], f"{entity} {uuid}: {origins} does not follow {walked}"
            assert walked[-1] == state, f"{entity} {uuid} is {state}, its history ends in {walked[-1]}"


async def assert_nothing_drifted(engine: Engine) -> None:
    """Check every count, unmet parent, lease and message against the steps and edges they are about."""
    counts = await engine.sql(
        "SELECT t.task_uuid, (t.total_steps, t.satisfied_steps, t.failed_steps, t.in_flight_steps, t.backoff_steps)"
        "::text AS kept, (count(*), count(*) FILTER (WHERE s.state IN ('complete', 'resolved_manually')), "
        "count(*) FILTER (WHERE s.state = 'error'), count(*) FILTER (WHERE s.state IN ('enqueued', 'in_progress', "
        "'enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')), "
        "count(*) FILTER (WHERE s.state = 'waiting_for_retry'))::text AS true "
        "FROM tasker.tasks t JOIN tasker.workflow_steps s USING (task_uuid) GROUP BY t.task_uuid"
    )
    assert not [row for row in counts if row[1] != row[2]]
    parents = await engine.sql(
        "SELECT c.step_uuid, c.unmet_parents, count(DISTINCT p.step_uuid) FROM tasker.workflow_steps c "
        "LEFT JOIN tasker.workflow_step_edges e ON e.task_uuid = c.task_uuid AND e.to_step_uuid = c.step_uuid "
        "LEFT JOIN tasker.workflow_steps p ON p.task_uuid = e.task_uuid AND p.step_uuid = e.from_step_uuid "
        "AND p.state NOT IN ('complete', 'resolved_manually') GROUP BY c.task_uuid, c.step_uuid"
    )
    assert not [row for row in parents if row[1] != row[2]]
    assert not await engine.sql(
        "SELECT * FROM (SELECT task_uuid, step_uuid FROM tasker.workflow_steps WHERE state = 'in_progress') s "
        "FULL JOIN tasker.step_leases l USING (task_uuid, step_uuid) WHERE s.step_uuid IS NULL OR l.step_uuid IS NULL"
    ), "leases and running steps differ"
