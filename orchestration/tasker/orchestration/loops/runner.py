"""Runs a loop: tick, wait for a wake-up or the time the tick asked for, again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from tasker.persistence.failures import is_transient, pauses
from tasker.persistence.listener import Wakeup
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


class Loop(Protocol):
    """What the runner runs."""

    @property
    def name(self) -> str:
        """How logs call it."""

    async def tick(self) -> float:
        """Do one group; return how many seconds to wait unless woken, 0 to go on at once."""


class LoopRunner:
    """Runs one loop in the background until it is stopped. A failing tick is repeated, with pauses that double."""

    def __init__(self, loop: Loop, wakeup: Wakeup | None = None) -> None:
        self._loop = loop
        self._wakeup = wakeup or Wakeup()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.failures = 0

    @property
    def name(self) -> str:
        """The loop's name."""
        return self._loop.name

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=self._loop.name)

    async def stop(self) -> None:
        """Let the tick at hand end, then stop."""
        self._stopping = True
        self._wakeup.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        waits = pauses()
        while not self._stopping:
            rest: Callable[[float], Awaitable[object]] = self._wakeup.idle
            try:
                wait = await self._loop.tick()
                self.failures, waits = 0, pauses()
            except Exception as error:
                self.failures += 1
                wait, rest = next(waits), self._wakeup.wait
                if is_transient(error):
                    log.warning("loop_interrupted", loop=self._loop.name, error=type(error).__name__)
                else:
                    log.exception("loop_failed", loop=self._loop.name)
            if wait > 0 and not self._stopping:
                await rest(wait)
