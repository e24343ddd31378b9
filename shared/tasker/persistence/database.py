"""The database as a service sees it: a pool for requests, sessions for what is called in a row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from psycopg import AsyncConnection, IsolationLevel
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import AsyncRowFactory
from psycopg_pool import AsyncConnectionPool

from tasker.persistence.connections import Connection, check, configure, conninfo
from tasker.persistence.failures import without_conflict
from tasker.persistence.queries import Params, Queries, Record, Transaction, run
from tasker.persistence.sessions import Pulse, Session, Sessions


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """How many connections of a pool are used, and what became of those who asked for one.

    Attributes:
        active: Connections that are lent.
        idle: Connections that wait to be.
        most: As many as there may be.
        acquired: How often one was asked for since the start.
        waited: How often among them none was free at once.
        refused: How often among them none came free in time.
        waited_ms: How long all who waited did so together, in milliseconds.
    """

    active: int
    idle: int
    most: int
    acquired: int
    waited: int
    refused: int
    waited_ms: int

    @property
    def utilization(self) -> float:
        """The share of all possible connections that is lent, 0 to 1."""
        return self.active / self.most


class Database(Queries):
    """A pool of connections, each statement a transaction of its own unless `transaction` says otherwise.

    Conflicts with other transactions are tried again.

    Attributes:
        pulse: When it last answered a session, and that it takes no writes.
    """

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        min_size: int = 1,
        max_size: int = 10,
        session_settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare the pool; it connects in `open`.

        Args:
            url: Of the database.
            application_name: What PostgreSQL calls these connections.
            min_size: Pooled connections that are always there.
            max_size: The most pooled connections.
            session_settings: What the engine's functions read by `current_setting`, in sessions only.
        """
        self._conninfo = conninfo(url, application_name=application_name)
        self._session_settings = session_settings or {}
        self.pulse = Pulse()
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self._conninfo,
            min_size=min_size,
            max_size=max_size,
            timeout=3,  # a caller shall hear the reason before its own patience ends
            max_lifetime=1800,
            configure=configure,
            check=check,
            open=False,
            name=application_name,
        )

    async def open(self) -> None:
        """Connect.

        Raises:
            psycopg.OperationalError: No connection could be had within ten seconds.
        """
        # One connection first, by hand: it fails with the server's own words, the pool only with a timeout.
        probe = await AsyncConnection.connect(self._conninfo)
        await probe.close()
        await self._pool.open(wait=True, timeout=10)

    async def close(self) -> None:
        """Give all connections back."""
        await self._pool.close(timeout=5)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit mode."""
        async with self._pool.connection() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Lend a transaction; the caller handles conflicts."""
        async with self._writable() as connection, connection.transaction():
            yield Transaction(connection)

    @asynccontextmanager
    async def snapshot(self, *, prepare: bool | None = None) -> AsyncIterator[Transaction]:
        """Lend a transaction that only reads, all of it what was committed when its first statement began.

        Args:
            prepare: False where no statement is worth keeping the plan of.
        """
        async with self._pool.connection() as connection:
            # Said with the transaction's BEGIN: no round trip of its own.
            await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            await connection.set_read_only(True)
            try:
                async with connection.transaction():
                    yield Transaction(connection, prepare=prepare)
            finally:
                if not connection.closed:
                    await connection.set_isolation_level(None)
                    await connection.set_read_only(None)

    async def _run(self, query: str, params: Params, rows: AsyncRowFactory[Record]) -> list[Record]:
        async def fetch() -> list[Record]:
            async with self._writable() as connection:
                return await run(connection, query, params, rows)

        try:
            return await without_conflict(fetch)
        except ReadOnlySqlTransaction:
            return await without_conflict(
                fetch
            )  # on a new connection, since the pool has given up those it had

    @asynccontextmanager
    async def _writable(self) -> AsyncIterator[Connection]:
        """Lend a connection; if it turns out to take no writes, the pool gives up all it has."""
        async with self._pool.connection() as connection:
            try:
                yield connection
            except ReadOnlySqlTransaction:
                await self._pool.drain()
                self.pulse.on_refusal()
                raise

    def session(self) -> Session:
        """Return a connection of its own for a loop that calls in a row; it connects when first used."""
        return Session(self._conninfo, self._session_settings, self.pulse)

    def sessions(self, *, at_most: int | None = None) -> Sessions:
        """Return as many connections as are used at once; each connects when first used.

        Args:
            at_most: How many calls run at once; further ones wait. None where the callers are few anyway.
        """
        return Sessions(self._conninfo, self._session_settings, self.pulse, at_most=at_most)

    def usage(self) -> PoolUsage:
        """Return how the pool is used right now."""
        counters = self._pool.get_stats()
        idle = counters.get("pool_available", 0)
        return PoolUsage(
            active=counters.get("pool_size", 0) - idle,
            idle=idle,
            most=max(1, counters.get("pool_max", 1)),
            acquired=counters.get("requests_num", 0),
            waited=counters.get("requests_queued", 0),
            refused=counters.get("requests_errors", 0),
            waited_ms=counters.get("requests_wait_ms", 0),
        )

    @property
    def url_parameters(self) -> str:
        """The libpq parameters. They may hold a password: never log them."""
        return self._conninfo
