"""Wake-ups: the one LISTEN connection of a process. A notification is a hint; polling is the truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.pq.abc import PGconn

from tasker.persistence.failures import is_transient, pauses
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

_LONGEST_RETRY_SECONDS = 10.0


class Wakeup:
    """Set by notifications, a connection made or lost, or a local caller; taken by the loop that waits for it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._channels: set[str] = set()
        self._everything = False

    def set(self, channel: str | None = None) -> None:
        """Wake the waiting loop, or the next one that waits; without a channel there may be news on any."""
        if channel is None:
            self._everything = True
        else:
            self._channels.add(channel)
        self._event.set()

    async def wait(self, timeout: float | None) -> frozenset[str] | None:
        """Wait for a wake-up for at most `timeout` seconds, and take it.

        Returns:
            The channels that have news; None when all may have, as after the timeout.
        """
        await self._set_within(timeout)
        return self._take()

    async def idle(self, seconds: float) -> frozenset[str] | None:
        """Wait as a loop does that found nothing more to do and would look again after `seconds`; like `wait`."""
        return await self.wait(seconds)

    async def _set_within(self, timeout: float | None) -> bool:
        """Tell whether it is set, now or before the timeout."""
        if not self._event.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._event.wait()
        return self._event.is_set()

    def _take(self) -> frozenset[str] | None:
        channels = None if self._everything or not self._channels else frozenset(self._channels)
        self._event.clear()
        self._channels.clear()
        self._everything = False
        return channels


class Listener:
    """Listens to channels and sets their wake-ups; reconnects, and then wakes all, since hints may be lost."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._wakeups: dict[str, list[Wakeup]] = {}
        self._of_connection: list[Wakeup] = []
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()

    def subscribe(self, channel: str, wakeup: Wakeup | None = None) -> Wakeup:
        """Return a wake-up for a channel, or let one serve a further channel."""
        wakeup = wakeup or Wakeup()
        self._wakeups.setdefault(channel, []).append(wakeup)
        return wakeup

    def subscribe_connection(self, wakeup: Wakeup | None = None) -> Wakeup:
        """Return a wake-up for when the connection is made or lost, or let one serve that, too."""
        wakeup = wakeup or Wakeup()
        self._of_connection.append(wakeup)
        return wakeup

    @property
    def is_connected(self) -> bool:
        """Whether notifications arrive right now."""
        return self._connected.is_set()

    async def start(self) -> None:
        """Listen in the background, on the channels subscribed so far."""
        self._task = asyncio.create_task(self._run(), name="listener")

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def wait_connected(self) -> None:
        """Wait until notifications arrive."""
        await self._connected.wait()

    async def _run(self) -> None:
        waits = pauses(_LONGEST_RETRY_SECONDS)
        while True:
            try:
                await self._listen()
            except Exception as error:
                if self._connected.is_set():  # it did listen until now
                    waits = pauses(_LONGEST_RETRY_SECONDS)
                    self._connected.clear()
                    for wakeup in self._of_connection:
                        wakeup.set()
                delay = next(waits)
                # Whatever it was: without hints everything still runs, by polling.
                log.warning(
                    "listener_disconnected",
                    error=type(error).__name__,
                    retry_seconds=delay,
                    exc_info=None if is_transient(error) else error,
                )
            finally:
                self._connected.clear()
            await asyncio.sleep(delay)

    async def _listen(self) -> None:
        async with await AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
            for channel in self._wakeups:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            lost = asyncio.Event()
            with self._read(connection.pgconn, lost):
                self._connected.set()
                for wakeups in (self._of_connection, *self._wakeups.values()):
                    for wakeup in wakeups:
                        wakeup.set()
                await lost.wait()
            raise psycopg.OperationalError("the server has closed the connection")

    @contextlib.contextmanager
    def _read(self, pgconn: PGconn, lost: asyncio.Event) -> Iterator[None]:
        """Pass notifications on straight from the event loop, until the connection is lost.

        `AsyncConnection.notifies` would do the same by way of a future, a timer and a generator: a wake-up that takes
        ten times as long, and a chain of four steps waits for nine of them.
        """
        loop = asyncio.get_running_loop()
        socket = pgconn.socket

        def arrived() -> None:
            try:
                pgconn.consume_input()
                while (notification := pgconn.notifies()) is not None:
                    self._wake(notification.relname.decode())
            except psycopg.OperationalError:
                # At once: libpq has closed the socket, and the next one that is opened may get its number.
                loop.remove_reader(socket)
                lost.set()

        loop.add_reader(socket, arrived)
        try:
            arrived()  # what came with the answers to LISTEN
            yield
        finally:
            if not lost.is_set():
                loop.remove_reader(socket)

    def _wake(self, channel: str) -> None:
        for wakeup in self._wakeups.get(channel, ()):
            wakeup.set(channel)
