"""The queues of a namespace, one for each band of priority, and which a claim looks at first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final


class Band(StrEnum):
    """A band of task priorities; the value is what tells its queues from others.

    Namespaces may not end in one of these, so that no queue belongs to two of them.
    """

    HIGH = "_high"
    NORMAL = ""
    LOW = "_low"


#: The band that each of ten claims in a row begins with; it goes on with the others in their order, so that under a
#: backlog the higher bands get most of the slots and the lowest is not forgotten.
_TURNS: Final = (
    Band.HIGH, Band.NORMAL, Band.HIGH, Band.HIGH, Band.NORMAL,
    Band.HIGH, Band.LOW, Band.HIGH, Band.NORMAL, Band.HIGH,
)  # fmt: skip


def worker_queue(namespace: str, band: Band = Band.NORMAL) -> str:
    """Return the queue of the steps of a namespace's tasks whose priority is in a band."""
    return f"worker_{namespace}{band}_queue"


class Turns:
    """Says in which order to look at the queues of some namespaces, another order for each claim."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        self._namespaces = namespaces
        self._turn = 0
        self._begun = Counter[Band]()

    def queues(self) -> list[str]:
        """Return all queues."""
        return [worker_queue(namespace, band) for band in Band for namespace in self._namespaces]

    def next(self, wanted: Collection[str] | None = None) -> list[str]:
        """Return the queues for the next claim, or those of them that are wanted."""
        first = _TURNS[self._turn % len(_TURNS)]
        bands = [first, *(band for band in Band if band is not first)]
        # A backlog in one namespace must not starve the others: in each band they take turns at being the first.
        start = self._begun[first] % len(self._namespaces) if self._namespaces else 0
        self._turn += 1
        self._begun[first] += 1
        rotated = [*self._namespaces[start:], *self._namespaces[:start]]
        queues = [worker_queue(namespace, band) for band in bands for namespace in rotated]
        return queues if wanted is None else [queue for queue in queues if queue in wanted]
