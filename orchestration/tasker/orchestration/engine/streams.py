"""What was read for a watcher and not taken yet: bounded, and cut off when it is left lying."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar
from uuid import UUID

from tasker.persistence.reading.transitions import TransitionRecord

Item = TypeVar("Item")

#: With so many items waiting for it, nothing more is read for a watcher: the database keeps the rest.
_MANY: Final = 256
#: How long a watcher may leave what waits for it lying before it is cut off.
PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Group(Generic[Item]):
    """What one read brought for a watcher.

    Attributes:
        snapshot: Where the next read goes on.
        read_at: The engine's clock when it was read.
        items: In order; none in a sign of life.
    """

    snapshot: str
    read_at: datetime
    items: list[Item]


class Stream(Generic[Item]):
    """Hands what is read for a watcher over to it.

    Attributes:
        snapshot: What has been read for it so far; None before it begins.
        hinted: Whether something may have been committed that its own first read did not see.
        passed_over: Whether nothing was read for it, since it had no room.
        cursor: The last one its watcher was told, for whoever ends it.

    Args:
        on_room: Called when it has room again after it was passed over.
    """

    def __init__(self, on_room: Callable[[], None]) -> None:
        self._on_room = on_room
        self.snapshot: str | None = None
        self.hinted = False
        self.passed_over = False
        self.cursor = ""
        self._read_at: datetime | None = None
        self._groups: deque[Group[Item]] = deque()
        self._waiting = 0
        self._taken_at = 0.0
        self._changed = asyncio.Event()
        self._failure: Callable[[], Exception] | None = None

    @property
    def wants_more(self) -> bool:
        """Whether to read for it: it has begun, goes on, and has room."""
        return self.snapshot is not None and self._failure is None and self._waiting < _MANY

    def begin(self, snapshot: str, read_at: datetime) -> None:
        """Let reading go on behind what the watcher has seen."""
        self.snapshot, self._read_at = snapshot, read_at

    def put(self, group: Group[Item]) -> None:
        """Add what was read; the group may be empty."""
        self.snapshot, self._read_at = group.snapshot, group.read_at
        if group.items:
            if not self._groups:
                self._taken_at = _now()
            self._groups.append(group)
            self._waiting += len(group.items)
            self._changed.set()

    def end(self, failure: Callable[[], Exception]) -> None:
        """Have the watcher end with an exception made by `failure`; what waits for it is forgotten."""
        self._failure = failure
        self._groups.clear()
        self._waiting = 0
        self._changed.set()

    def is_left_lying(self) -> bool:
        """Whether something has waited for too long."""
        return bool(self._groups) and _now() - self._taken_at > PATIENCE_SECONDS

    async def take(self, seconds: float | None = None) -> Group[Item]:
        """Return the next group that is not empty; after so many seconds an empty one, as a sign of life.

        Raises:
            Exception: What the stream was ended with.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        if self._failure is not None:
            raise self._failure()
        self._taken_at = _now()
        if not self._groups:
            assert self.snapshot is not None
            assert self._read_at is not None
            return Group(self.snapshot, self._read_at, [])
        group = self._groups.popleft()
        self._waiting -= len(group.items)
        if not self._groups:
            self._changed.clear()
        if self.passed_over and self.wants_more:
            self.passed_over = False
            self._on_room()
        return group


class TaskStream(Stream[TransitionRecord]):
    """The stream of one task.

    Attributes:
        task_uuid: The task.
        steps: Whether its steps are wanted.
    """

    def __init__(self, task_uuid: UUID, *, steps: bool, on_room: Callable[[], None]) -> None:
        super().__init__(on_room)
        self.task_uuid = task_uuid
        self.steps = steps


def _now() -> float:
    return asyncio.get_running_loop().time()
