"""In which order a worker looks at its queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from tasker.messaging.queues import Band, worker_queue

#: The band that each of ten claims in a row begins with; it goes on with the others in their order, so that under a
#: backlog the higher bands get most of the slots and the lowest is not forgotten.
_FIRST_BANDS: Final = (
    Band.HIGH, Band.NORMAL, Band.HIGH, Band.HIGH, Band.NORMAL,
    Band.HIGH, Band.LOW, Band.HIGH, Band.NORMAL, Band.HIGH,
)  # fmt: skip


class ClaimOrder:
    """Says in which order to look at the queues of some namespaces, another order for each claim."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        self._namespaces = namespaces
        self._claims = 0
        self._begun = Counter[Band]()

    def queues(self) -> list[str]:
        """Return all queues."""
        return [worker_queue(namespace, band) for band in Band for namespace in self._namespaces]

    def next(self, wanted: Collection[str] | None = None) -> list[str]:
        """Return the queues for the next claim, or those of them that are wanted."""
        first = _FIRST_BANDS[self._claims % len(_FIRST_BANDS)]
        bands = [first, *(band for band in Band if band is not first)]
        # A backlog in one namespace must not starve the others: in each band each of them is the first in its time.
        start = self._begun[first] % len(self._namespaces) if self._namespaces else 0
        self._claims += 1
        self._begun[first] += 1
        rotated = [*self._namespaces[start:], *self._namespaces[:start]]
        queues = [worker_queue(namespace, band) for band in bands for namespace in rotated]
        return queues if wanted is None else [queue for queue in queues if queue in wanted]
