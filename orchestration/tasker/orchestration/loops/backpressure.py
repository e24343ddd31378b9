"""Looks how much waits, so that nobody who creates a task has to."""

from __future__ import annotations

from typing import Final

from tasker.orchestration.engine.backpressure import Backpressure
from tasker.persistence.reading.backlogs import BacklogReader

_PAUSE_SECONDS: Final = 5.0


class BackpressureLoop:
    """Notes how much waits, every five seconds."""

    name = "backpressure"

    def __init__(self, reader: BacklogReader, backpressure: Backpressure) -> None:
        self._reader = reader
        self._backpressure = backpressure

    async def tick(self) -> float:
        """Note it once."""
        self._backpressure.note(await self._reader.backlogs())
        return _PAUSE_SECONDS
