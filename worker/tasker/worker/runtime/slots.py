"""How many steps may run at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

#: A handler that is told to stop may take so long to clean up before it counts as hung.
_CLEAN_UP_SECONDS: Final = 0.5


class Slots:
    """Counts the running steps; wakes who waits for a free one.

    Attributes:
        size: How many there are.
        in_use: How many are taken, by hung handlers, too.
        hung: How many are taken by handlers that go on after their step has ended.
        on_hung: Called when that number changes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.in_use = 0
        self.hung = 0
        self.on_hung: Callable[[], None] = lambda: None
        self._reserved = 0
        self._closed = 0
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """Slots that nothing runs in, and that are not reserved; none while they are closed."""
        return 0 if self._closed else self.size - self.in_use - self._reserved

    def take(self) -> None:
        """Occupy a slot."""
        self.in_use += 1

    def give_back(self) -> None:
        """Free a slot."""
        self.in_use -= 1
        self._freed.set()

    def give_back_after(self, released: asyncio.Future[None]) -> None:
        """Free a slot when the handler in it ends, whose step has ended without it."""
        hanging = False

        def hang() -> None:
            nonlocal hanging
            hanging = True
            self.hung += 1
            self.on_hung()

        def end(_: asyncio.Future[None]) -> None:
            timer.cancel()
            self.give_back()
            if hanging:
                self.hung -= 1
                self.on_hung()

        timer = asyncio.get_running_loop().call_later(_CLEAN_UP_SECONDS, hang)
        released.add_done_callback(end)

    @contextlib.contextmanager
    def reserved(self, at_most: int) -> Iterator[int]:
        """Keep up to so many free slots for what is being claimed; yield how many. What was claimed takes them."""
        kept = max(0, min(at_most, self.free))
        self._reserved += kept
        try:
            yield kept
        finally:
            self._reserved -= kept
            self._freed.set()

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Give out no slot until the block ends. What is reserved may still be taken."""
        self._closed += 1
        try:
            yield
        finally:
            self._closed -= 1
            self._freed.set()

    async def none_reserved(self) -> None:
        """Wait until what was being claimed has taken its slots."""
        while self._reserved:
            self._freed.clear()
            await self._freed.wait()

    def wake(self) -> None:
        """Let who waits look again."""
        self._freed.set()

    async def wait_free(self, *, linger_seconds: float) -> int:
        """Wait for a free slot, and up to `linger_seconds` for a quarter of them; return how many are free.

        May return 0, when `wake` was called.
        """
        enough = max(1, self.size // 4)
        if linger_seconds and self.free < enough:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger_seconds):
                    while self.free < enough:
                        self._freed.clear()
                        await self._freed.wait()
        if self.free <= 0:
            self._freed.clear()
            await self._freed.wait()
        return max(0, self.free)
