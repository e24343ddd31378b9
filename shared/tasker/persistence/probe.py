"""Whether the database answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tasker.persistence.database import Database

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
        self._session = database.session()
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
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
        await self._session.close()

    async def check(self) -> bool:
        """Ask now and return the answer."""
        async with self._lock:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await self._session.fetch_all(b"SELECT 1")
                ready = True
            except Exception:
                ready = False
                await self._session.close()
            self.milliseconds = round((time.perf_counter() - started) * 1000)
            if ready != self.ready:
                self.ready = ready
                log.info("database_answers" if ready else "database_gone")
                await self._on_change(ready)
            return ready

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            await self.check()
