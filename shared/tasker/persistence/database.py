"""Connections to PostgreSQL: a pool for requests, a session for each loop that calls in a row."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from tasker.domain.errors import TaskerError, UnavailableError

log = structlog.get_logger(__name__)

Params: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = AsyncConnection[Row]
Returned = TypeVar("Returned")

#: SQLSTATE classes of a database in trouble: connection, rollback, resources, not in state, intervention; and of
#: the disk under it.
_TRANSIENT_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
#: A standby that has not been promoted yet: during a failover every write meets it.
_READ_ONLY: Final = "25006"
#: The two that another try at once usually cures.
_CONFLICTS: Final = frozenset({"40P01", "40001"})

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0


class DatabaseUrlError(TaskerError):
    """The database URL cannot be used."""

    reason = "DATABASE_URL_INVALID"


def is_transient(error: BaseException) -> bool:
    """Tell whether the database failed, rather than the statement."""
    if isinstance(error, PoolTimeout | psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.Error):
        return isinstance(error, OSError)
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate[:2] in _TRANSIENT_CLASSES or error.sqlstate == _READ_ONLY


def as_unavailable(error: Exception) -> Exception:
    """Return what to tell whoever waits for an answer: a database in trouble is unavailable, not broken."""
    if isinstance(error, psycopg.Error) and is_transient(error):
        return UnavailableError("the database does not answer", retry_after_seconds=1)
    return error


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, psycopg.Error) and error.sqlstate in _CONFLICTS


async def without_conflict(call: Callable[[], Awaitable[Returned]]) -> Returned:
    """Make a call that is a whole transaction; on deadlock or serialisation failure a few times, with jitter."""
    try:
        return await call()  # nearly always enough, and the retry machinery costs as much as a short query
    except psycopg.Error as error:
        if not _is_conflict(error):
            raise

    async def again() -> Returned:  # tenacity awaits coroutine functions only; a lambda is none
        return await call()

    return await AsyncRetrying(
        retry=retry_if_exception(_is_conflict),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.005, max=0.1),
        reraise=True,
    )(again)


async def patiently(
    call: Callable[[], Awaitable[Returned]],
    event: str,
    *,
    outlasts: Callable[[BaseException], bool] = is_transient,
    longest_pause_seconds: float = _LONGEST_PAUSE_SECONDS,
    **facts: object,
) -> Returned:
    """Make a call again and again while the database is away, with pauses that double.

    Args:
        call: What to do. It may be done more often than it succeeds.
        event: How the log calls a failure.
        outlasts: Which failures to wait out; all others are raised at once.
        longest_pause_seconds: Where the pauses stop to grow.
        facts: What the log says with each failure.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await call()
        except Exception as error:
            if not outlasts(error):
                raise
            log.warning(event, error=type(error).__name__, retry_seconds=pause, **facts)
        await asyncio.sleep(pause)
        pause = min(pause * 2, longest_pause_seconds)


def conninfo(url: str, *, application_name: str) -> str:
    """Return libpq parameters for a database URL.

    Raises:
        DatabaseUrlError: libpq cannot read it; the message names the fix and never holds the URL.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise DatabaseUrlError(
            "DATABASE_URL is not a PostgreSQL URL; give postgresql://user:password@host:port/database"
        ) from None
    ports = str(given.get("port", "")).split(",")
    if not all(port.isdecimal() and int(port) < 65_536 for port in ports if port):
        raise DatabaseUrlError(
            "DATABASE_URL has something else than a number up to 65535 as port; if that is part of the password, "
            "percent-encode its special characters"
        )
    # A peer that vanished without a word is noticed within a minute, also by a connection that only listens.
    defaults: dict[str, Any] = {
        "connect_timeout": 10,
        "application_name": application_name,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    return make_conninfo("", **(defaults | given))


def _hung_up(connection: Connection) -> bool:
    """Tell whether the server has closed an idle connection, without asking it."""
    if not connection.closed:
        with contextlib.suppress(psycopg.Error):
            connection.pgconn.consume_input()  # its last words
            connection.pgconn.consume_input()  # the end
    return connection.closed


async def _check(connection: Connection) -> None:
    if _hung_up(connection):
        raise psycopg.OperationalError("the server has closed the connection")


def _pass_on(diagnostic: psycopg.errors.Diagnostic) -> None:
    """Log what a function of ours, or the server, warns of."""
    if diagnostic.severity_nonlocalized == "WARNING":
        log.warning("database_warning", message=diagnostic.message_primary, detail=diagnostic.message_detail)


async def _configure(connection: Connection) -> None:
    await connection.set_autocommit(True)
    connection.add_notice_handler(_pass_on)
    # Everything goes by key: a plan made while a table was tiny must not read all of it ever after.
    # Until PostgreSQL 17 a plan that reads a small table all the same counts as so dear that it is compiled each time.
    await connection.execute(
        "SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)"
    )
    connection.prepare_threshold = 0


#: The engine's functions have one plan each, whatever the statistics say.
_PINNED: Final = """
    SELECT set_config(name, setting, false)
    FROM (VALUES ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('enable_bitmapscan', 'off'),
                 ('plan_cache_mode', 'force_generic_plan')) AS pinned(name, setting)
"""


class Database:
    """A pool of connections, each statement a transaction of its own unless `transaction` says otherwise."""

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
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self._conninfo,
            min_size=min_size,
            max_size=max_size,
            timeout=3,  # a caller shall hear the reason before its own patience ends
            max_lifetime=1800,
            configure=_configure,
            check=_check,
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
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside one transaction."""
        async with self._pool.connection() as connection, connection.transaction():
            yield connection

    async def fetch_all(self, query: str, params: Params = None) -> list[Row]:
        """Run one statement and return its rows; conflicts are retried."""

        async def fetch() -> list[Row]:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(query.encode(), params)
                return await cursor.fetchall()

        return await without_conflict(fetch)

    async def fetch_one(self, query: str, params: Params = None) -> Row | None:
        """Run one statement and return its first row, or None."""
        rows = await self.fetch_all(query, params)
        return rows[0] if rows else None

    async def execute(self, query: str, params: Params = None) -> None:
        """Run one statement that returns nothing."""

        async def execute() -> None:
            async with self._pool.connection() as connection:
                await connection.execute(query.encode(), params)

        await without_conflict(execute)

    def session(self) -> Session:
        """Return a connection of its own for a loop that calls in a row; it connects when first used."""
        return Session(self._conninfo, self._session_settings)

    def sessions(self, *, at_most: int | None = None) -> Sessions:
        """Return as many connections as are used at once; each connects when first used.

        Args:
            at_most: How many calls run at once; further ones wait. None where the callers are few anyway.
        """
        return Sessions(self._conninfo, self._session_settings, at_most=at_most)

    def statistics(self) -> Mapping[str, int]:
        """Return the pool's counters, as psycopg_pool names them."""
        return self._pool.get_stats()

    @property
    def url_parameters(self) -> str:
        """The libpq parameters. They may hold a password: never log them."""
        return self._conninfo


class Session:
    """One connection for the engine's functions that reconnects: after an error the next call starts afresh.

    Calls are serialised; a loop that wants two statements at once takes two sessions.
    """

    def __init__(self, conninfo: str, settings: Mapping[str, str]) -> None:
        self._conninfo = conninfo
        self._settings = settings
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self.connected_times = 0

    async def fetch_all(self, query: bytes, params: Params = None) -> list[Row]:
        """Run one prepared statement as a transaction of its own and return its rows."""

        async def fetch() -> list[Row]:
            cursor = await (await self._connect()).execute(query, params)
            return await cursor.fetchall()

        async with self._lock:
            return await without_conflict(fetch)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend the connection inside one transaction; the caller handles conflicts."""
        async with self._lock:
            connection = await self._connect()
            async with connection.transaction():
                yield connection

    async def close(self) -> None:
        """Close the connection; the session may be used again."""
        async with self._lock:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None

    async def _connect(self) -> Connection:
        if self._connection is None or _hung_up(self._connection):
            connection = await AsyncConnection.connect(self._conninfo)
            await _configure(connection)
            await connection.execute(_PINNED)
            for name, value in self._settings.items():
                await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            self._connection = connection
            self.connected_times += 1
        return self._connection


class Sessions:
    """Connections that several loops share: a call takes the one used last, calls at once take different ones.

    With little to do everything runs on one connection, whose plans and processor caches are warm: a call on a
    connection that slept takes a third longer.
    """

    def __init__(self, conninfo: str, settings: Mapping[str, str], *, at_most: int | None = None) -> None:
        self._conninfo = conninfo
        self._settings = settings
        self._room = asyncio.Semaphore(at_most) if at_most else contextlib.nullcontext()
        self._all: list[Session] = []
        self._idle: list[Session] = []

    async def fetch_all(self, query: bytes, params: Params = None) -> list[Row]:
        """Run one prepared statement as a transaction of its own and return its rows."""
        async with self._lend() as session:
            return await session.fetch_all(query, params)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside one transaction; the caller handles conflicts."""
        async with self._lend() as session, session.transaction() as connection:
            yield connection

    async def close(self) -> None:
        """Close the connections as their calls end; the sessions may be used again."""
        for session in self._all:
            await session.close()

    @asynccontextmanager
    async def _lend(self) -> AsyncIterator[Session]:
        async with self._room:
            if self._idle:
                session = self._idle.pop()
            else:
                session = Session(self._conninfo, self._settings)
                self._all.append(session)
            try:
                yield session
            finally:
                self._idle.append(session)
