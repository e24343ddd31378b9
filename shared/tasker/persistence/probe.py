"""Whether the database answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tasker.persistence.database import Database
from tasker.persistence.listener import Listener
from tasker.persistence.sessions import Session

log = structlog.get_logger(__name__)

#: While the database is away, or nothing else would tell that it goes.
_INTERVAL_SECONDS: Final = 1.0
#: Since the last answer to anybody, while all is well: who listens knows at once of a connection that ends, and a
#: network that is dead shows by asking.
_LONGEST_INTERVAL_SECONDS: Final = 3.0
_TIMEOUT_SECONDS: Final = 1.0
#: Between finding that somebody has just had an answer and looking again.
_SHORTEST_WAIT_SECONDS: Final = 0.01


class DatabaseProbe:
    """Asks the database and tells when the answer changes.

    It asks once a second while there is no answer, and while all is well when nobody else had one for three seconds; at
    once when the listener is cut off or connects again, and when somebody wants to know and the last answer to anybody
    is more than a second old.

    Attributes:
        ready: Whether it answered last time.
        milliseconds: How long the last answer took.
    """

    def __init__(
        self, database: Database, listener: Listener, *, on_change: Callable[[bool], Awaitable[None]]
    ) -> None:
        self._database = database
        self._listener = listener
        self._wakeup = listener.subscribe_connection()
        self._session = database.session()
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._given_up: set[asyncio.Task[None]] = set()
        self.ready = False
        self.milliseconds = 0

    async def start(self) -> None:
        """Ask now, then in the background."""
        await self.check()
        self._task = asyncio.create_task(self._run(), name="probe")

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.gather(*self._given_up)
        await self._session.close()

    async def check(self) -> bool:
        """Ask now and return the answer."""
        async with self._lock:
            return await self._check()

    async def refresh(self) -> None:
        """Ask unless the last answer to anybody is less than a second old."""
        async with self._lock:
            if self._silence() >= _INTERVAL_SECONDS:
                await self._check()

    def _silence(self) -> float:
        return time.monotonic() - self._database.pulse.beat_at

    async def _check(self) -> bool:
        started = time.perf_counter()
        ready = await self._ask()
        self.milliseconds = round((time.perf_counter() - started) * 1000)
        if ready != self.ready:
            self.ready = ready
            log.info("database_answers" if ready else "database_gone")
            self._wakeup.set()  # whoever has asked: go on at the pace that suits the answer
            await self._on_change(ready)
        return ready

    async def _ask(self) -> bool:
        asking = asyncio.create_task(self._session.execute("SELECT 1"))
        try:
            await asyncio.wait([asking], timeout=_TIMEOUT_SECONDS)
        finally:
            answered = asking.done() and not asking.cancelled() and asking.exception() is None
            if not answered:
                giving_up = asyncio.create_task(_give_up(asking, self._session))
                self._given_up.add(giving_up)
                giving_up.add_done_callback(self._given_up.discard)
                self._session = self._database.session()
        return answered

    async def _run(self) -> None:
        while True:
            wait = _INTERVAL_SECONDS
            if self.ready and self._listener.is_connected:
                wait = max(_LONGEST_INTERVAL_SECONDS - self._silence(), _SHORTEST_WAIT_SECONDS)
            await self._wakeup.wait(wait)
            # Loops of a service without work ask often enough; whoever loses the listener asks in any case.
            well = self.ready and self._listener.is_connected
            if not well or self._silence() >= _LONGEST_INTERVAL_SECONDS:
                await self.check()


async def _give_up(asking: asyncio.Task[None], session: Session) -> None:
    """Cancel a question; while the network is dead, this takes psycopg ten seconds."""
    asking.cancel()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await asking
    await session.close()
