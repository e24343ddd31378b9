"""Work that arrives while a batch is in flight makes the next batch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Batcher(Generic[Item, Outcome]):
    """Runs single calls in batches, one batch at a time.

    Args:
        run: Handles a batch; returns one outcome an item, in order. An item whose outcome is an exception raises it
            to its caller; if `run` itself raises, every caller of the batch gets that.
        max_size: The largest batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | BaseException]]],
        *,
        max_size: int,
    ) -> None:
        self._run = run
        self._max_size = max_size
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._in_flight: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to take batches."""
        self._task = asyncio.create_task(self._loop(), name="batcher")

    async def stop(self) -> None:
        """Finish what waits, then stop."""
        while unfinished := [*self._in_flight, *self._waiting]:
            await asyncio.wait([future for _, future in unfinished])
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def submit(self, item: Item) -> Outcome:
        """Hand in one item and return its outcome."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._arrived.set()
        # The batch goes on when its caller leaves: the others in it wait for the same transaction.
        return await asyncio.shield(future)

    async def _loop(self) -> None:
        while True:
            await self._arrived.wait()
            # Once around the loop: calls that arrived together share the batch.
            await asyncio.sleep(0)
            batch, self._waiting = self._waiting[: self._max_size], self._waiting[self._max_size :]
            self._in_flight = batch
            if not self._waiting:
                self._arrived.clear()
            outcomes: Sequence[Outcome | BaseException]
            try:
                outcomes = await self._run([item for item, _ in batch])
            except Exception as error:
                outcomes = [error] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                    future.exception()  # a caller that left does not make it an unretrieved exception
                else:
                    future.set_result(outcome)
            self._in_flight = []
