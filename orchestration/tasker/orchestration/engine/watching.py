"""Reading for all watchers of the process at once, when a hint says so and now and then anyway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.errors import SlowWatcherError, TaskerError, UnavailableError
from tasker.domain.uuids import uuid7
from tasker.orchestration.engine.feeds import Feed, FeedReading, TaskWish
from tasker.orchestration.engine.streams import PATIENCE_SECONDS, Group, Stream, TaskStream
from tasker.persistence.database import Database
from tasker.persistence.failures import as_unavailable, is_transient
from tasker.persistence.listener import Listener
from tasker.persistence.operations.watch import announce_watcher
from tasker.persistence.reading.moved_tasks import MovedTaskReader
from tasker.persistence.reading.transitions import Line, TransitionReader
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

TRANSITIONS_CHANNEL: Final = "tasker_transitions"

#: Polling stands behind the hints. Soon, and then twice as seldom each time: what began before somebody watched tells
#: nobody when it commits. While hints arrive, the first poll after news may take longer.
_FIRST_POLL_SECONDS: Final = 0.05
_POLL_AFTER_NEWS_SECONDS: Final = 1.0
_SLOWEST_POLL_SECONDS: Final = 5.0
#: The slowest while no hints arrive.
_DEAF_POLL_SECONDS: Final = 1.0
#: How long transactions go on hinting after an orchestrator has last said that it watches.
_WATCH_SECONDS: Final = 60.0
#: Reading for more streams than this takes a while: as long a pause follows, so that it takes at most half of a core.
MANY_STREAMS: Final = 32


class Watching:
    """Has one reader for all open streams: however many there are, a hint costs one statement, and so does a poll."""

    def __init__(
        self, database: Database, reader: TransitionReader, moved_tasks: MovedTaskReader, listener: Listener
    ) -> None:
        self._database = database
        self._reader = reader
        self._feeds = FeedReading(moved_tasks, reader)
        self._listener = listener
        self._wakeup = listener.subscribe(TRANSITIONS_CHANNEL)
        self._watcher_uuid = uuid7()
        self._streams: set[TaskStream] = set()
        self._step_watchers = 0
        self._announced: tuple[bool, float] = (False, float("-inf"))
        self._announcing = asyncio.Lock()
        self._poll_seconds = _FIRST_POLL_SECONDS
        self._poll: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def has_many_streams(self) -> bool:
        """Whether so many are open, of a task or of all that match, that a pause follows each reading."""
        return len(self._streams) + len(self._feeds.feeds) > MANY_STREAMS

    async def start(self) -> None:
        """Begin to read for whoever watches."""
        self._task = asyncio.create_task(self._run(), name="watching")

    async def stop(self) -> None:
        """End every stream; whoever watches goes on at another orchestrator."""
        self._stopped = True
        for stream in self._all():
            stream.end(_stopping)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._poll is not None:
            self._poll.cancel()

    @asynccontextmanager
    async def task(self, task_uuid: UUID, *, steps: bool) -> AsyncIterator[TaskStream]:
        """Lend a stream of a task's transitions; what is committed from now on is hinted.

        The borrower reads first for itself, as it pleases, and then begins the stream (`begin`) behind what it has
        seen.

        Raises:
            UnavailableError: The orchestrator stops; continue with the last cursor at another one.
        """
        stream = TaskStream(task_uuid, steps=steps, on_room=self._wakeup.set)
        self._streams.add(stream)
        self._step_watchers += steps
        try:
            await self._open()
            yield stream
        finally:
            self._step_watchers -= steps
            self._streams.discard(stream)

    @asynccontextmanager
    async def tasks(self, wish: TaskWish, *, steps: bool) -> AsyncIterator[Feed]:
        """Lend a stream of the transitions of all tasks that match; otherwise like `task`."""
        feed = Feed(wish, steps=steps, on_room=self._wakeup.set)
        self._feeds.feeds.add(feed)
        self._step_watchers += steps
        try:
            await self._open()
            yield feed
        finally:
            self._step_watchers -= steps
            self._feeds.feeds.discard(feed)

    def begin(self, stream: Stream[Any], snapshot: str, read_at: datetime, *, behind: bool = False) -> None:
        """Go on reading for a stream behind what its borrower has seen.

        Args:
            stream: What `task` or `tasks` lent.
            snapshot: What was seen.
            read_at: When, by the engine's clock.
            behind: Whether more has been committed for certain; then it is read at once.
        """
        stream.begin(snapshot, read_at)
        if behind or stream.hinted:
            self._wakeup.set()
        elif self._poll is None:
            self._plan_poll()

    async def learn_open_tasks(self, feed: Feed) -> None:
        """See `FeedReading.learn_open_tasks`."""
        await self._feeds.learn_open_tasks(feed)

    def _all(self) -> Iterator[Stream[Any]]:
        yield from self._streams
        yield from self._feeds.feeds

    async def _open(self) -> None:
        if self._stopped:
            raise _stopping()
        await self._announce()

    async def _run(self) -> None:
        while True:
            await self._wakeup.wait(None)
            took = await self._read_for_all()
            if self.has_many_streams:
                await asyncio.sleep(took)

    async def _read_for_all(self) -> float:
        """Read whatever is new; return for how many seconds."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        for stream in self._all():
            stream.hinted = stream.hinted or stream.snapshot is None
            stream.passed_over = not stream.wants_more
            if stream.is_left_lying():
                stream.end(_too_slow(stream))
        try:
            news = await self._read_again_once()
        except Exception as error:
            self._end_all(error)
            news = False
        if news:
            hinted = self._listener.is_connected
            self._poll_seconds = _POLL_AFTER_NEWS_SECONDS if hinted else _FIRST_POLL_SECONDS
        self._plan_poll()
        return loop.time() - started

    async def _read_again_once(self) -> bool:
        """Read; a connection that was lost meanwhile is no reason to end all streams."""
        try:
            return await self._read()
        except Exception as error:
            if not is_transient(error):
                raise
            return await self._read()

    async def _read(self) -> bool:
        """Read for all streams that want more; return whether there was anything."""
        lines: dict[Line, list[TaskStream]] = {}
        for stream in self._streams:
            if stream.wants_more:
                line = Line(stream.task_uuid, stream.steps, stream.snapshot)
                lines.setdefault(line, []).append(stream)
        feeds = self._feeds.that_want_more()
        if lines or feeds:
            await self._announce()
        news = False
        if lines:
            reading = await self._reader.transitions(list(lines))
            for streams, transitions in zip(lines.values(), reading.transitions, strict=True):
                news = news or bool(transitions)
                for stream in streams:
                    stream.put(Group(reading.snapshot, reading.read_at, transitions))
        if feeds:
            found = await self._feeds.read(feeds)
            if found.more:
                self._wakeup.set()
            news = news or found.news
        return news

    def _plan_poll(self) -> None:
        """Look again after a while, for as long as anybody watches."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        if any(stream.snapshot is not None for stream in self._all()):
            slowest = _SLOWEST_POLL_SECONDS if self._listener.is_connected else _DEAF_POLL_SECONDS
            seconds = min(self._poll_seconds, slowest)
            self._poll_seconds = min(seconds * 2, slowest)
            self._poll = asyncio.get_running_loop().call_later(seconds, self._wakeup.set)

    def _end_all(self, error: Exception) -> None:
        if not is_transient(error):
            log.error("watching_failed", exc_info=error)
        for stream in self._all():
            stream.end(lambda: _failed(error))

    async def _announce(self) -> None:
        """Have transactions hint their transitions while somebody watches."""
        async with self._announcing:
            steps, until = self._announced
            now = asyncio.get_running_loop().time()
            is_new = until < now or (self._step_watchers > 0 and not steps)
            if not is_new and until - now >= _WATCH_SECONDS / 2:
                return
            steps = self._step_watchers > 0
            await announce_watcher(self._database, self._watcher_uuid, steps=steps, seconds=_WATCH_SECONDS)
            self._announced = (steps, now + _WATCH_SECONDS)
            if is_new:
                self._poll_seconds = _FIRST_POLL_SECONDS
                self._plan_poll()


def _stopping() -> TaskerError:
    # To end without an error would look like the end of the task.
    return UnavailableError("the service stops; go on elsewhere with the last cursor", retry_after_seconds=1)


def _failed(error: Exception) -> Exception:
    if is_transient(error):
        return as_unavailable(error)
    failure = RuntimeError("reading for watchers failed")
    failure.__cause__ = error
    return failure


def _too_slow(stream: Stream[Any]) -> Callable[[], Exception]:
    return lambda: SlowWatcherError(stream.cursor, seconds=PATIENCE_SECONDS)
