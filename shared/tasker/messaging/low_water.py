"""Where reading a queue may start, so that it does not visit the dead rows of messages long gone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

#: Ids commit out of order: start below what was read this long ago, and from the bottom once in a while.
_LAG_SECONDS: Final = 0.5
_FULL_SCAN_SECONDS: Final = 1.0


class LowWater:
    """The low-water mark of one queue."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()
        self._mark = 0
        self._scanned_at = float("-inf")

    def start(self) -> int:
        """Return the id to read above: 0, a full scan, once a second and after `reset`."""
        now = self._clock()
        while self._seen and self._seen[0][0] <= now - _LAG_SECONDS:
            self._mark = self._seen.popleft()[1]
        if now - self._scanned_at >= _FULL_SCAN_SECONDS:
            self._scanned_at = now
            return 0
        return self._mark

    def saw(self, msg_id: int | None) -> None:
        """Note the highest id that a read returned."""
        if msg_id is not None and (not self._seen or msg_id > self._seen[-1][1]):
            self._seen.append((self._clock(), msg_id))

    def reset(self) -> None:
        """Read everything next time: after an error nothing is known."""
        self._seen.clear()
        self._mark = 0
        self._scanned_at = float("-inf")
