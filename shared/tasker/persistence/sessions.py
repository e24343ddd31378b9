"""Connections for what calls in a row: the engine's functions, whose plans are made once and kept."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from psycopg import AsyncConnection
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import AsyncRowFactory

from tasker.persistence.connections import PINNED, Connection, configure, hung_up
from tasker.persistence.failures import without_conflict
from tasker.persistence.queries import Params, Queries, Record, Transaction, run

#: However many requests of operators an orchestrator gets at once, or running steps of a worker fetch and store what
#: is theirs, they take no more connections than this.
MOST_REQUESTS: Final = 4


class Pulse:
    """When the database last answered a session, and that it refuses to be written to.

    Attributes:
        beat_at: By `time.monotonic`; of no session that was ever used, minus infinity.
        on_refusal: Called when something was not written because the database takes no writes, in any thread.
    """

    def __init__(self) -> None:
        self.beat_at = float("-inf")
        self.on_refusal: Callable[[], None] = lambda: None

    def beat(self) -> None:
        """Note that it has answered."""
        self.beat_at = time.monotonic()


class Session(Queries):
    """One connection for the engine's functions that reconnects: after an error the next call starts afresh.

    Calls are serialised; a loop that wants two statements at once takes two sessions. A connection that takes no writes
    is given up: a new one may lead to a server that does.
    """

    def __init__(self, conninfo: str, settings: Mapping[str, str], pulse: Pulse) -> None:
        self._conninfo = conninfo
        self._settings = settings
        self._pulse = pulse
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self.connected_times = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Lend a transaction; the caller handles conflicts."""
        async with self._lock:
            connection = await self._connect()
            try:
                async with connection.transaction():
                    yield Transaction(connection)
            except ReadOnlySqlTransaction:
                await self._drop()
                self._pulse.on_refusal()
                raise

    async def connect(self) -> int:
        """Connect, unless it is connected; return how many times it has done so."""
        async with self._lock:
            await self._connect()
            return self.connected_times

    async def close(self) -> None:
        """Close the connection; the session may be used again."""
        async with self._lock:
            await self._drop()

    async def _run(self, query: str, params: Params, rows: AsyncRowFactory[Record]) -> list[Record]:
        async def fetch() -> list[Record]:
            return await run(await self._connect(), query, params, rows)

        async with self._lock:
            try:
                records = await without_conflict(fetch)
            except ReadOnlySqlTransaction:
                await self._drop()
                try:
                    records = await without_conflict(fetch)
                except ReadOnlySqlTransaction:
                    await self._drop()
                    self._pulse.on_refusal()
                    raise
        self._pulse.beat()
        return records

    async def _drop(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connect(self) -> Connection:
        if self._connection is None or hung_up(self._connection):
            connection = await AsyncConnection.connect(self._conninfo)
            await configure(connection)
            await connection.execute(PINNED)
            for name, value in self._settings.items():
                await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            self._connection = connection
            self.connected_times += 1
        return self._connection


class Sessions(Queries):
    """Connections that several loops share: a call takes the one used last, calls at once take different ones.

    With little to do everything runs on one connection, whose plans and processor caches are warm: a call on a
    connection that slept takes a third longer.
    """

    def __init__(
        self, conninfo: str, settings: Mapping[str, str], pulse: Pulse, *, at_most: int | None = None
    ) -> None:
        self._conninfo = conninfo
        self._settings = settings
        self._pulse = pulse
        self._room = asyncio.Semaphore(at_most) if at_most else contextlib.nullcontext()
        self._all: list[Session] = []
        self._idle: list[Session] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Lend a transaction; the caller handles conflicts."""
        async with self._lend() as session, session.transaction() as transaction:
            yield transaction

    async def close(self) -> None:
        """Close the connections as their calls end; the sessions may be used again."""
        for session in self._all:
            await session.close()

    async def _run(self, query: str, params: Params, rows: AsyncRowFactory[Record]) -> list[Record]:
        async with self._lend() as session:
            return await session._run(query, params, rows)

    @asynccontextmanager
    async def _lend(self) -> AsyncIterator[Session]:
        async with self._room:
            if self._idle:
                session = self._idle.pop()
            else:
                session = Session(self._conninfo, self._settings, self._pulse)
                self._all.append(session)
            try:
                yield session
            finally:
                self._idle.append(session)
