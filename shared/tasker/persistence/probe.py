"""Whether the database answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tasker.persistence.database import Database
from tasker.persistence.sessions import Session

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 1.0


class DatabaseProbe:
    """Asks the database once a second and tells when the answer changes.

    Attributes:
        ready: Whether it answered last time.
        milliseconds: How long the last answer took.
    """

    def __init__(self, database: Database, *, on_change: Callable[[bool], Awaitable[None]]) -> None:
        self._database = database
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
            started = time.perf_counter()
            ready = await self._ask()
            self.milliseconds = round((time.perf_counter() - started) * 1000)
            if ready != self.ready:
                self.ready = ready
                log.info("database_answers" if ready else "database_gone")
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
            await asyncio.sleep(_INTERVAL_SECONDS)
            await self.check()


async def _give_up(asking: asyncio.Task[None], session: Session) -> None:
    """Cancel a question; while the network is dead, this takes psycopg ten seconds."""
    asking.cancel()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await asking
    await session.close()
