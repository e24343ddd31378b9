"""How far a watcher has been told: which cursor and which instant come next, and when a sign of life is due."""

from __future__ import annotations

import asyncio
from datetime import datetime

from tasker.domain.errors import InvalidArgumentError
from tasker.persistence.reading.cursors import Cursor, Snapshot


class Telling:
    """Keeps the instants of a watch from running backwards, over all streams that it takes.

    Args:
        scope: What is watched, as the cursor names it.
        resume_cursor: Where to go on; empty or None to begin.
        heartbeat_seconds: After how long without a word a sign of life is due; None for never.

    Raises:
        InvalidArgumentError: The cursor is none, or of something else.
    """

    def __init__(self, scope: str, resume_cursor: str | None, *, heartbeat_seconds: float | None) -> None:
        self._scope = scope
        self._heartbeat_seconds = heartbeat_seconds
        self._quiet_since = _now()
        self._resumed: Snapshot | None = None
        self.told_at: datetime | None = None
        if resume_cursor:
            cursor = Cursor.parse(resume_cursor)
            if cursor is None or cursor.scope != scope:
                raise InvalidArgumentError.of(
                    "resume_cursor",
                    "is no cursor of this stream: give the cursor of its last message unchanged, with the same task or "
                    "the same filters, or leave it out to begin anew",
                )
            self._resumed, self.told_at = cursor.snapshot, cursor.told_at

    @property
    def seen(self) -> str | None:
        """What the cursor to go on with has seen; None for nothing."""
        return str(self._resumed) if self._resumed else None

    def check(self, snapshot: str) -> None:
        """Refuse a cursor that has seen what, by this snapshot, is yet to come.

        Raises:
            InvalidArgumentError: It is from elsewhere.
        """
        current = Snapshot.parse(snapshot)
        if self._resumed and current and self._resumed.upcoming > current.upcoming:
            raise InvalidArgumentError.of(
                "resume_cursor", "is of another database, or of a later time than this one has; leave it out"
            )

    def cursor(self, snapshot: str) -> str:
        """Return the cursor behind what a snapshot sees."""
        seen = Snapshot.parse(snapshot)
        assert seen is not None
        return str(Cursor(self._scope, seen, self.told_at))

    def tell(self, instant: datetime) -> datetime:
        """Note that something is told now; return the instant to tell with it."""
        self.told_at = max(instant, self.told_at or instant)
        self._quiet_since = _now()
        return self.told_at

    def patience(self) -> float | None:
        """Return after how many seconds a sign of life is due."""
        if self._heartbeat_seconds is None:
            return None
        return max(0.0, self._quiet_since + self._heartbeat_seconds - _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
