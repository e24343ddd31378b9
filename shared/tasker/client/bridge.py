"""From programs without asyncio to the async client: an event loop in a thread, and methods that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import wraps
from threading import Lock, Thread
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from tasker.forks import FORKED, is_forked

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")
Item = TypeVar("Item")
Calls_co = TypeVar("Calls_co", covariant=True)  # what a client inherits is called on the client


class LoopThread:
    """An event loop that runs in a thread of its own."""

    def __init__(self, name: str = "tasker-client") -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        # A daemon: a client that nobody closed does not keep the program from ending.
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Answer]) -> Future[Answer]:
        """Begin some work."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        """End the loop; work at hand is cancelled."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        with self._runner:  # cancels what is left when the loop was stopped
            self._loop.run_forever()


class Bridge:
    """Carries work to an event loop, whose thread begins with the first work. Threads may share it."""

    def __init__(self, owner: str = "client") -> None:
        """`owner` is how messages call what works on the loop."""
        self._owner = owner
        self._lock = Lock()
        self._closed = False
        self._thread: LoopThread | None = None

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Wait for some work; what interrupts the wait ends the work, too.

        Raises:
            RuntimeError: The bridge was closed, before or meanwhile; or gRPC cannot be used in this process.
        """
        if is_forked():  # the thread is the parent's, and the lock may be held for ever
            work.close()
            raise RuntimeError(FORKED)
        with self._lock:
            if self._closed:
                work.close()
                raise RuntimeError(self._closed_message())
            if self._thread is None:
                self._thread = LoopThread(f"tasker-{self._owner}")
            future = self._thread.submit(work)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError(self._closed_message()) from None
        finally:
            future.cancel()

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Refuse further work, do the last one if there ever was any, and end the loop."""
        if is_forked():
            self._closed = True
            return
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.submit(last()).result()
            thread.stop()

    def _closed_message(self) -> str:
        return f"the {self._owner} is closed; make another one"


class Synchronous(Generic[Calls_co]):
    """Some calls of the async client for programs without asyncio; its methods are made by `waits` and `iterates`."""

    def __init__(self, calls: Calls_co, bridge: Bridge) -> None:
        self._calls = calls
        self._bridge = bridge


def waits(
    method: Callable[Concatenate[Calls_co, Parameters], Coroutine[Any, Any, Answer]],
) -> Callable[Concatenate[Synchronous[Calls_co], Parameters], Answer]:
    """Return the method that waits for what the async one does."""

    @wraps(method)
    def call(self: Synchronous[Calls_co], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        return self._bridge.run(method(self._calls, *args, **kwargs))

    return call


def iterates(
    method: Callable[Concatenate[Calls_co, Parameters], AsyncGenerator[Item, None]],
) -> Callable[Concatenate[Synchronous[Calls_co], Parameters], Generator[Item, None, None]]:
    """Return the method that iterates over what the async one yields."""

    @wraps(method)
    def call(
        self: Synchronous[Calls_co], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Generator[Item, None, None]:
        async def start() -> AsyncGenerator[Item, None]:
            return method(self._calls, *args, **kwargs)

        async def next_item() -> Item:
            return await anext(items)

        items = self._bridge.run(start())
        try:
            while True:
                try:
                    item = self._bridge.run(next_item())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            # Refused if the client was closed or an interrupt is ending the iteration: both make an end of it.
            with suppress(RuntimeError):
                self._bridge.run(items.aclose())

    return call
