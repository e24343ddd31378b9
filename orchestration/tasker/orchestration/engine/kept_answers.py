"""Answers that are worth keeping for a while: many callers, one computation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Kept(Generic[Answer]):
    computing: asyncio.Task[Answer]
    until: float


class KeptAnswers(Generic[Key, Answer]):
    """Computes an answer once for all who ask within a while, those who ask meanwhile included.

    A failure is not kept: the next one who asks has it computed anew.
    """

    def __init__(
        self,
        compute: Callable[[Key], Awaitable[Answer]],
        *,
        seconds: float,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep answers.

        Args:
            compute: Makes the answer to a question.
            seconds: How long an answer is kept, from its beginning.
            timeout_seconds: How long making one may take.
            clock: Seconds that only grow.
        """
        self._compute = compute
        self._seconds = seconds
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._kept: dict[Key, _Kept[Answer]] = {}

    async def get(self, key: Key) -> Answer:
        """Return the answer to a question.

        Raises:
            TimeoutError: It took too long, and was given up.
        """
        now = self._clock()
        self._kept = {key: kept for key, kept in self._kept.items() if kept.until > now and not _failed(kept)}
        if key not in self._kept:
            computing = asyncio.create_task(self._computed(key), name="answer")
            self._kept[key] = _Kept(computing, now + self._seconds)
        # It goes on when its caller leaves: others may wait for it, and it is kept.
        return await asyncio.shield(self._kept[key].computing)

    async def stop(self) -> None:
        """Give up what is being computed."""
        for kept in self._kept.values():
            kept.computing.cancel()
        await asyncio.gather(*(kept.computing for kept in self._kept.values()), return_exceptions=True)

    async def _computed(self, key: Key) -> Answer:
        async with asyncio.timeout(self._timeout_seconds):
            return await self._compute(key)


def _failed(kept: _Kept[Answer]) -> bool:
    done = kept.computing.done()
    return done and (kept.computing.cancelled() or kept.computing.exception() is not None)
