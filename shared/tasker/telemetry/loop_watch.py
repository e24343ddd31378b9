"""Notices from another thread when the event loop does not get to its work, and says where it is stuck."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Final

from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

_FRAMES_SHOWN: Final = 8
#: For so long a blocked loop is a matter of health, after it goes on.
_REMEMBERED_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Blockage:
    """A time in which the loop got to nothing.

    Attributes:
        seconds: How long that was.
        ended_at: When it went on, by `time.monotonic`.
        where: What it was busy with, as the innermost calls of its thread.
    """

    seconds: float
    ended_at: float
    where: str


class LoopWatch:
    """Asks the loop for a sign of life once in a while, from a thread of its own.

    What blocks the loop blocks everything on it, health included: nobody can be told until it is over. So the log says
    it at once, and health afterwards.
    """

    def __init__(self, *, longest_seconds: float) -> None:
        """Watch a loop once started; `longest_seconds` is how late its sign of life may be."""
        self._longest_seconds = longest_seconds
        self._stopping = threading.Event()
        self._last: Blockage | None = None

    def start(self) -> None:
        """Watch the running loop, whose thread this is."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        threading.Thread(target=self._run, name="loop-watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()

    @property
    def problem(self) -> str | None:
        """That the loop was blocked a short while ago; None if it was not."""
        if self._last is None:
            return None
        ago = time.monotonic() - self._last.ended_at
        if ago > _REMEMBERED_SECONDS:
            return None
        return f"the event loop was blocked for {self._last.seconds:.1f} s, {ago:.0f} s ago, by {self._last.where}"

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._longest_seconds / 2):
                self._ask()
        except RuntimeError:  # the loop is closed
            return

    def _ask(self) -> None:
        """Wait for one sign of life, however long it takes."""
        alive = threading.Event()
        asked_at = time.monotonic()
        self._loop.call_soon_threadsafe(alive.set)
        if alive.wait(self._longest_seconds):
            return
        frames = self._frames()
        where = frames[-1] if frames else "unknown code"
        log.error(
            "event_loop_blocked", seconds=round(time.monotonic() - asked_at, 1), where=where, calls=frames
        )
        alive.wait()
        ended_at = time.monotonic()
        self._last = Blockage(ended_at - asked_at, ended_at, where)
        log.warning("event_loop_goes_on", blocked_seconds=round(self._last.seconds, 1), where=where)

    def _frames(self) -> list[str]:
        """Return what the loop's thread is doing, the innermost call last."""
        frame = sys._current_frames().get(self._loop_thread)
        calls = traceback.extract_stack(frame)[-_FRAMES_SHOWN:]
        return [f"{call.name} ({call.filename}:{call.lineno})" for call in calls]
