"""Running services in one process until somebody asks it to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol

from tasker.domain.errors import TaskerError

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: How long tidying up may take once somebody has insisted.
_LAST_SECONDS: Final = 5.0


#: Whether this process hears the signals itself; its children shall not.
_hearing = False


def _block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _end_by_signals() -> None:
    if _hearing:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
    _unblock_signals()


# A forked child shares the pipe by which signals reach the loop: what is sent to it would stop its parent.
os.register_at_fork(before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_end_by_signals)


class Service(Protocol):
    """What can be run: started in order, stopped in reverse."""

    async def start(self) -> None:
        """Return once it answers."""

    async def stop(self) -> None:
        """Finish what runs, then return."""


class ForcedExitError(TaskerError):
    """A second signal came while the process was stopping; what it was doing is abandoned."""

    reason = "FORCED_EXIT"


class ShutdownTimeoutError(TaskerError):
    """The process stopped before all of its work was done."""

    reason = "SHUTDOWN_TIMEOUT"


class StopRequest:
    """Hears SIGTERM and SIGINT: the first asks to stop, the second insists."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._main = asyncio.current_task()
        self.insisted = False

    def hear(self) -> None:
        """Take one signal."""
        if not self._asked.is_set():
            self._asked.set()
            return
        self.insisted = True
        if self._main is not None:
            self._main.cancel()
        # Whatever holds out against that does not hold out against this.
        last = threading.Timer(_LAST_SECONDS, os._exit, [1])
        last.daemon = True
        last.start()

    async def wait(self) -> None:
        """Wait until somebody asks to stop."""
        await self._asked.wait()

    async def done_before(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do some work; return whether it was done before somebody asked to stop, and drop it if not."""
        task = asyncio.create_task(work)
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
        return not task.cancelled() and task.result() is None


@asynccontextmanager
async def stop_request() -> AsyncIterator[StopRequest]:
    """Hear the signals for as long as the block runs."""
    global _hearing
    loop = asyncio.get_running_loop()
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        loop.add_signal_handler(number, request.hear)
    _hearing = True
    try:
        yield request
    except asyncio.CancelledError:
        if not request.insisted:
            raise
        raise ForcedExitError("stopped at once, as asked twice; steps that ran will run again") from None
    finally:
        _hearing = False
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@asynccontextmanager
async def started(services: Sequence[Service], stop: StopRequest) -> AsyncIterator[bool]:
    """Start services in order and stop them in reverse; the value tells whether all of them run.

    Raises:
        ShutdownTimeoutError: Work was still going on when the shutdown timeout ran out.
    """
    running: list[Service] = []
    try:
        for service in services:
            if not await stop.done_before(service.start()):
                break
            running.append(service)
        yield len(running) == len(services)
    finally:
        await _stop(running)


async def serve(services: Sequence[Service], *, when_ready: Callable[[], None] = lambda: None) -> None:
    """Run services until SIGTERM or SIGINT; each finishes what it is doing.

    Raises:
        ForcedExitError: A second signal came.
        ShutdownTimeoutError: Work was still going on when the shutdown timeout ran out.
    """
    async with stop_request() as stop, started(services, stop) as ready:
        if ready:
            # What is there now stays: a collection need not look at it again, in the middle of a step.
            gc.collect()
            gc.freeze()
            when_ready()
            await stop.wait()


async def _stop(services: list[Service]) -> None:
    """Stop services, the last one first, all of them even if one fails."""
    if not services:
        return
    try:
        await services.pop().stop()
    except TimeoutError:
        raise ShutdownTimeoutError(
            "steps still ran when the shutdown timeout was over; they will run again once their leases end "
            "(TASKER_SHUTDOWN_TIMEOUT_SECONDS sets how long to wait)"
        ) from None
    finally:
        this = asyncio.current_task()
        if this is None or not this.cancelling():
            await _stop(services)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep SIGTERM and Ctrl-C waiting until the block is done.

    Raises:
        KeyboardInterrupt: One came.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            raise KeyboardInterrupt
