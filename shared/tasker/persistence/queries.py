"""Statements and the typed rows that they return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from importlib.resources import files
from typing import Any, TypeAlias, TypeVar, get_args, get_type_hints

from psycopg import AsyncCursor
from psycopg.rows import AsyncRowFactory, kwargs_row, scalar_row

from tasker.persistence.connections import Connection

Params: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
Record = TypeVar("Record")


class Queries(ABC):
    """What can be asked of the database. Rows arrive as the class that the caller names: by name, never by position."""

    async def fetch_all(
        self, record: Callable[..., Record], query: str, params: Params = None
    ) -> list[Record]:
        """Run one statement and return its rows; `record`, a class or a function, takes their columns by name.

        Where `record` names an enumeration, the column becomes a member of it.
        """
        return await self._run(query, params, _factory(record))

    async def fetch_one(
        self, record: Callable[..., Record], query: str, params: Params = None
    ) -> Record | None:
        """Run one statement and return its first row, or None."""
        rows = await self.fetch_all(record, query, params)
        return rows[0] if rows else None

    async def fetch_values(self, query: str, params: Params = None) -> list[Any]:
        """Run one statement that returns a single column, and return that column."""
        return await self._run(query, params, scalar_row)

    async def fetch_value(self, query: str, params: Params = None) -> Any:
        """Run one statement and return the first column of its first row; None when there is no row."""
        values = await self.fetch_values(query, params)
        return values[0] if values else None

    async def execute(self, query: str, params: Params = None) -> None:
        """Run one statement for what it does."""
        await self._run(query, params, scalar_row)

    @abstractmethod
    async def _run(self, query: str, params: Params, rows: AsyncRowFactory[Record]) -> list[Record]:
        """Run one statement and return all its rows."""


class Transaction(Queries):
    """Statements in one transaction, which ends with the block that lent it; nothing is tried again."""

    def __init__(self, connection: Connection, *, prepare: bool | None = None) -> None:
        self._connection = connection
        self._prepare = prepare

    async def _run(self, query: str, params: Params, rows: AsyncRowFactory[Record]) -> list[Record]:
        return await run(self._connection, query, params, rows, prepare=self._prepare)


async def run(
    connection: Connection,
    query: str,
    params: Params,
    rows: AsyncRowFactory[Record],
    *,
    prepare: bool | None = None,
) -> list[Record]:
    """Run one statement on a connection and return all its rows; none if it returns nothing."""
    async with AsyncCursor(connection, row_factory=rows) as cursor:
        await cursor.execute(query.encode(), params, prepare=prepare)
        # Not `cursor.description`: that describes every column, for a third of the time of a short call.
        returned = cursor.pgresult is not None and cursor.pgresult.nfields > 0
        return await cursor.fetchall() if returned else []


def statement(name: str) -> str:
    """Return the text of `reading/<name>.sql`."""
    return files("tasker.persistence").joinpath("reading", f"{name}.sql").read_text(encoding="utf-8")


_FACTORIES: dict[Callable[..., Any], AsyncRowFactory[Any]] = {}


def _factory(record: Callable[..., Record]) -> AsyncRowFactory[Record]:
    return _FACTORIES.get(record) or _FACTORIES.setdefault(record, _new_factory(record))


def _new_factory(record: Callable[..., Record]) -> AsyncRowFactory[Record]:
    enumerations = {
        name: kind
        for name, hint in get_type_hints(record).items()
        for kind in (hint, *get_args(hint))
        if isinstance(kind, type) and issubclass(kind, Enum)
    }
    return kwargs_row(partial(_with_members, record, enumerations)) if enumerations else kwargs_row(record)


def _with_members(
    record: Callable[..., Record], enumerations: Mapping[str, type[Enum]], **columns: Any
) -> Record:
    for name, enumeration in enumerations.items():
        if columns[name] is not None:
            columns[name] = enumeration(columns[name])
    return record(**columns)
