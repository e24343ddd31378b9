"""Watching tasks: every committed transition, in order, without gaps."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from tasker.domain.errors import InvalidArgumentError, UnavailableError
from tasker.domain.uuids import uuid7
from tasker.persistence.database import Database
from tasker.persistence.failures import is_transient
from tasker.persistence.listener import Wakeup
from tasker.persistence.operations.watch import announce_watcher
from tasker.persistence.reading.transitions import TransitionReader, TransitionRecord

log = structlog.get_logger(__name__)

#: Polling stands behind the hints: often while something has just happened, then once a second.
_FIRST_POLL_SECONDS: Final = 0.05
_SLOWEST_POLL_SECONDS: Final = 1.0
#: How long transactions go on hinting after an orchestrator has last said that it watches.
_WATCH_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class TransitionGroup:
    """What one read brought.

    Attributes:
        cursor: Continues after them.
        transitions: In the order of their commits, as far as one task's are ordered.
    """

    cursor: str
    transitions: list[TransitionRecord]


class Watching:
    """Wakes open streams when their task may have moved; each reads from where it stopped."""

    def __init__(self, database: Database, reader: TransitionReader, wakeup: Wakeup) -> None:
        self._database = database
        self._reader = reader
        self._wakeup = wakeup
        self._watcher_uuid = uuid7()
        self._streams: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._watches_steps = 0
        self._announced: tuple[bool, float] = (False, float("-inf"))
        self._task: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Begin to pass hints on."""
        self._task = asyncio.create_task(self._run(), name="watching")

    async def stop(self) -> None:
        """End every stream."""
        self._stopped.set()
        self._wake_all()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def watch(
        self, task_uuid: UUID, *, steps: bool, cursor: str | None = None
    ) -> AsyncGenerator[TransitionGroup, None]:
        """Yield what was committed so far, then everything after that, for as long as the caller iterates.

        Args:
            task_uuid: The task; of one that does not exist nothing is ever yielded but an empty first group.
            steps: Whether to include its steps.
            cursor: Continue after an earlier group. Without one the first group is the whole history. The first
                group comes at once, even when it is empty.

        Raises:
            InvalidArgumentError: The cursor is not one of ours.
            UnavailableError: The orchestrator stops; continue with the last cursor at another one.
        """
        if cursor is not None and not self._reader.is_cursor(cursor):
            raise InvalidArgumentError.of("resume_cursor", "is not a cursor of this stream; leave it out")
        moved = asyncio.Event()
        self._streams[task_uuid].add(moved)
        self._watches_steps += steps
        try:
            delay = _FIRST_POLL_SECONDS
            first = True
            while not self._stopped.is_set():
                moved.clear()
                await self._announce()
                cursor, transitions = await self._reader.transitions([task_uuid], cursor, steps=steps)
                if transitions or first:
                    first = False
                    delay = _FIRST_POLL_SECONDS
                    yield TransitionGroup(cursor, transitions)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await moved.wait()
                delay = min(delay * 2, _SLOWEST_POLL_SECONDS)
            # To end without an error would look like the end of the task.
            raise UnavailableError(
                "the service stops; go on elsewhere with the last cursor", retry_after_seconds=1
            )
        finally:
            self._watches_steps -= steps
            self._streams[task_uuid].discard(moved)
            if not self._streams[task_uuid]:
                del self._streams[task_uuid]

    async def _run(self) -> None:
        cursor: str | None = None
        while True:
            await self._wakeup.wait(None)
            if len(self._streams) <= 1:
                cursor = None
                self._wake_all()
                continue
            try:
                cursor, moved = await self._reader.moved_tasks(list(self._streams), cursor)
            except Exception as error:
                if not is_transient(error):
                    log.exception("watching_failed")
                moved = list(self._streams)
            for task_uuid in moved:
                for stream in self._streams.get(task_uuid, ()):
                    stream.set()

    async def _announce(self) -> None:
        """Have transactions hint their transitions while somebody watches."""
        steps, until = self._announced
        now = asyncio.get_running_loop().time()
        if until - now < _WATCH_SECONDS / 2 or (self._watches_steps and not steps):
            await announce_watcher(
                self._database, self._watcher_uuid, steps=self._watches_steps > 0, seconds=_WATCH_SECONDS
            )
            self._announced = (self._watches_steps > 0, now + _WATCH_SECONDS)

    def _wake_all(self) -> None:
        for streams in self._streams.values():
            for stream in streams:
                stream.set()
