"""A database that is away, and a network that passes nothing on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo


@asynccontextmanager
async def outage(database_url: str) -> AsyncIterator[None]:
    """Take the database away: every connection is cut and none is let in."""
    await set_away(database_url, away=True)
    try:
        yield
    finally:
        await set_away(database_url, away=False)


async def set_away(database_url: str, *, away: bool) -> None:
    """Take the database away, or give it back."""
    parameters: dict[str, Any] = dict(conninfo_to_dict(database_url))
    name = str(parameters["dbname"])
    elsewhere = make_conninfo("", **(parameters | {"dbname": "postgres"}))
    async with await psycopg.AsyncConnection.connect(elsewhere, autocommit=True) as connection:
        await connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                sql.Identifier(name), sql.SQL("false" if away else "true")
            )
        )
        if away:
            await connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
            )


async def set_read_only(database_url: str, *, read_only: bool) -> None:
    """Have new connections refuse writes, and end those there are; or have new ones take writes again, and end none."""
    parameters: dict[str, Any] = dict(conninfo_to_dict(database_url))
    name = str(parameters["dbname"])
    elsewhere = make_conninfo("", **(parameters | {"dbname": "postgres"}))
    change = "SET default_transaction_read_only = on" if read_only else "RESET default_transaction_read_only"
    async with await psycopg.AsyncConnection.connect(elsewhere, autocommit=True) as connection:
        await connection.execute(
            sql.SQL("ALTER DATABASE {} {}").format(sql.Identifier(name), sql.SQL(change))
        )
        if read_only:
            await connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
            )


class FreezingProxy:
    """Stands between a service and PostgreSQL and can stop passing anything on, as a dead network does."""

    def __init__(self, database_url: str, folder: Path) -> None:
        parameters: dict[str, Any] = dict(conninfo_to_dict(database_url))
        port = parameters.get("port", "5432")
        self._target = Path(parameters["host"]) / f".s.PGSQL.{port}"
        self._socket = folder / f".s.PGSQL.{port}"
        self.url = make_conninfo("", **(parameters | {"host": str(folder)}))
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pumps: set[asyncio.Task[None]] = set()

    def freeze(self) -> None:
        """Pass nothing on; connections stay open."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on what has waited."""
        self._flowing.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()
