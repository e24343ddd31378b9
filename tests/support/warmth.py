"""Connections to kept databases, parked when they are closed and lent again with all that they have planned.

A new session of PostgreSQL compiles and plans each function of the engine when it first meets it: most of what a short
test would take. So what a test opens is a session that tests before it have used, without their settings, channels and
locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import current_thread, main_thread
from typing import Any, Final

import psycopg
import pytest
from psycopg import AsyncConnection, pq
from psycopg.conninfo import conninfo_to_dict

_DEAD: Final = pq.PGconn.connect_start(b"host=/nowhere")
_DEAD.finish()

#: What a session keeps for whoever uses it next, plans aside.
_FORGET: Final = b"RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all()"


#: A server takes a hundred connections, and several processes of the run share one.
_MOST_PARKED: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class _Session:
    """What outlives the connection objects that use it: the session, and the names of its prepared statements."""

    conninfo: str
    pgconn: pq.abc.PGconn
    prepared: Any
    loop: asyncio.AbstractEventLoop

    @property
    def is_alive(self) -> bool:
        """Whether the server still listens, as far as it has said."""
        try:
            self.pgconn.consume_input()  # its last words
            self.pgconn.consume_input()  # the end
        except psycopg.Error:
            return False
        return self.pgconn.status == pq.ConnStatus.OK


class WarmConnection(AsyncConnection[Any]):
    """A connection that parks its session when it is closed."""

    opened_for: str

    async def close(self) -> None:
        """Let go of the session."""
        if not self.closed and not await WARMTH.park(self):
            await super().close()


class Warmth:
    """The parked sessions, by what they were opened for."""

    def __init__(self) -> None:
        self._databases: set[str] = set()
        self._parked: list[_Session] = []  # the one that waits longest comes first
        self._connect = AsyncConnection.connect

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Park and lend connections to the databases that are `kept`."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AsyncConnection, "connect", self.connect)
            yield
        self.end()

    def end(self) -> None:
        """End the parked sessions: what comes next needs the server's connections."""
        for session in self._parked:
            session.pgconn.finish()
        self._parked.clear()

    def keep(self, url: str) -> None:
        """From now on, park the connections to a database."""
        self._databases.add(_database(url))

    def parked(self, url: str) -> list[int]:
        """Return the process ids of the parked sessions of a database."""
        return [
            session.pgconn.backend_pid
            for session in self._parked
            if _database(session.conninfo) == _database(url)
        ]

    async def connect(self, conninfo: str = "", **options: Any) -> AsyncConnection[Any]:
        """Connect as psycopg does; to a kept database with a parked session, if one is there."""
        elsewhere = (
            current_thread() is not main_thread()
        )  # its loop ends with it, and nobody could resume there
        if elsewhere or options.keys() - {"autocommit"} or _database(conninfo) not in self._databases:
            return await self._connect(conninfo, **options)
        while session := self._taken(conninfo):
            if session.is_alive and session.loop is asyncio.get_running_loop():
                return await _resumed(session, **options)
            session.pgconn.finish()
        # As psycopg has it, save that what comes out parks its session.
        connection: WarmConnection = await self._connect.__func__(WarmConnection, conninfo, **options)  # type: ignore[attr-defined]
        connection.opened_for = conninfo
        return connection

    async def park(self, connection: WarmConnection) -> bool:
        """Park the session of a connection, unless it is in the middle of something."""
        pgconn = connection.pgconn
        if connection.lock.locked() or pgconn.transaction_status != pq.TransactionStatus.IDLE:
            return False
        try:
            await connection.set_autocommit(True)
            await connection.execute(_FORGET, prepare=False)
        except psycopg.Error:
            return False
        connection.pgconn = _DEAD
        self._parked.append(
            _Session(connection.opened_for, pgconn, connection._prepared, asyncio.get_running_loop())
        )
        if len(self._parked) > _MOST_PARKED:
            self._parked.pop(0).pgconn.finish()
        return True

    def _taken(self, conninfo: str) -> _Session | None:
        """Take the session that was parked last for this purpose."""
        for session in reversed(self._parked):
            if session.conninfo == conninfo:
                self._parked.remove(session)
                return session
        return None


async def _resumed(session: _Session, *, autocommit: bool = False) -> WarmConnection:
    connection = WarmConnection(session.pgconn)
    connection.opened_for = session.conninfo
    connection._prepared = session.prepared
    connection.prepare_threshold = 5  # psycopg's default
    await connection.set_autocommit(autocommit)
    return connection


@cache
def _database(conninfo: str) -> str:
    parameters = conninfo_to_dict(conninfo)
    return f"{parameters.get('host')}/{parameters.get('dbname')}"


WARMTH: Final = Warmth()
