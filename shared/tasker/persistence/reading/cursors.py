"""Cursors of watches: what a watcher has seen of what was committed."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Self

#: The oldest transaction in progress, the next to come, those in progress between the two.
_SNAPSHOT: Final = re.compile(r"([0-9]{1,18}):([0-9]{1,18}):((?:[0-9]{1,18}(?:,[0-9]{1,18})*)?)", re.ASCII)
_CURSOR: Final = re.compile(r"([0-9a-f]{12})\.([0-9]{0,18})\.([0-9:,]+)", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pg_snapshot: which transactions a reading could see.

    Attributes:
        oldest: The oldest transaction in progress; all before it were seen.
        upcoming: The next transaction to begin; none from it on was seen.
        running: Those in progress between the two.
    """

    oldest: int
    upcoming: int
    running: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what PostgreSQL takes for a snapshot, or None."""
        if (found := _SNAPSHOT.fullmatch(text)) is None:
            return None
        oldest, upcoming = int(found[1]), int(found[2])
        running = tuple(int(xid) for xid in found[3].split(",") if xid)
        ordered = all(low < high for low, high in itertools.pairwise([oldest - 1, *running, upcoming]))
        return cls(oldest, upcoming, running) if 0 < oldest <= upcoming and ordered else None

    def __str__(self) -> str:
        """Return it as PostgreSQL writes it."""
        return f"{self.oldest}:{self.upcoming}:{','.join(map(str, self.running))}"

    def until(self, xid: int) -> Snapshot:
        """Return the same picture without what any transaction behind this one did."""
        upcoming = min(self.upcoming, xid + 1)
        running = tuple(one for one in self.running if one < upcoming)
        return Snapshot(min(self.oldest, upcoming), upcoming, running)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a watch goes on.

    Attributes:
        scope: What is watched; a cursor of something else leads nowhere.
        snapshot: What was seen.
        told_at: The newest instant that was told, None before the first one: instants of a watch never run backwards,
            whoever goes on with it.
    """

    scope: str
    snapshot: Snapshot
    told_at: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the cursor with this text, or None if no cursor has it."""
        if (found := _CURSOR.fullmatch(text)) is None or (snapshot := Snapshot.parse(found[3])) is None:
            return None
        try:
            told_at = _EPOCH + int(found[2]) * _MICROSECOND if found[2] else None
        except OverflowError:
            return None
        return cls(found[1], snapshot, told_at)

    def __str__(self) -> str:
        """Return its text, which `parse` reads."""
        told = (self.told_at - _EPOCH) // _MICROSECOND if self.told_at else ""
        return f"{self.scope}.{told}.{self.snapshot}"


def scope(*facts: str | bytes) -> str:
    """Return the scope of a watch that these facts tell from all others."""
    digests = (sha256(fact.encode() if isinstance(fact, str) else fact).digest() for fact in facts)
    return sha256(b"".join(digests)).hexdigest()[:12]
