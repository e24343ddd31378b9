"""Work that arrives while a group is in flight makes the next group."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Returned = TypeVar("Returned")


class GroupCommit(Generic[Item, Returned]):
    """Runs single calls in groups, one group at a time.

    Args:
        run: Handles a group; returns what each item's caller gets, in order. An exception among that is raised to its
            caller; if `run` itself raises, every caller of the group gets that.
        max_size: The largest group.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Returned | BaseException]]],
        *,
        max_size: int,
    ) -> None:
        self._run = run
        self._max_size = max_size
        self._waiting: list[tuple[Item, asyncio.Future[Returned]]] = []
        self._in_flight: list[tuple[Item, asyncio.Future[Returned]]] = []
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to take groups."""
        self._task = asyncio.create_task(self._loop(), name="group commit")

    async def stop(self) -> None:
        """Finish what waits, then stop."""
        while unfinished := [*self._in_flight, *self._waiting]:
            await asyncio.wait([future for _, future in unfinished])
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def submit(self, item: Item) -> Returned:
        """Hand in one item and return what comes of it."""
        future: asyncio.Future[Returned] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._arrived.set()
        # The group goes on when its caller leaves: the others in it wait for the same transaction.
        return await asyncio.shield(future)

    async def _loop(self) -> None:
        while True:
            await self._arrived.wait()
            # Once around the loop: calls that arrived together share the group.
            await asyncio.sleep(0)
            group, self._waiting = self._waiting[: self._max_size], self._waiting[self._max_size :]
            self._in_flight = group
            if not self._waiting:
                self._arrived.clear()
            answers: Sequence[Returned | BaseException]
            try:
                answers = await self._run([item for item, _ in group])
            except Exception as error:
                answers = [error] * len(group)
            for (_, future), answer in zip(group, answers, strict=True):
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                    future.exception()  # a caller that left does not make it an unretrieved exception
                else:
                    future.set_result(answer)
            self._in_flight = []
