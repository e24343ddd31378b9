"""The client for programs without asyncio: the same methods, carried out on an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import wraps
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from tasker.client.client import TaskerClient

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")
Item = TypeVar("Item")

_CLOSED: Final = "the client is closed; make another one"


def _waits(
    method: Callable[Concatenate[TaskerClient, Parameters], Coroutine[Any, Any, Answer]],
) -> Callable[Concatenate[SyncTaskerClient, Parameters], Answer]:
    """Return the method that waits for what the async client's does."""

    @wraps(method)
    def call(self: SyncTaskerClient, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        return self._run(method(self._client, *args, **kwargs))

    return call


def _iterates(
    method: Callable[Concatenate[TaskerClient, Parameters], AsyncGenerator[Item, None]],
) -> Callable[Concatenate[SyncTaskerClient, Parameters], Generator[Item, None, None]]:
    """Return the method that iterates over what the async client's yields."""

    @wraps(method)
    def call(
        self: SyncTaskerClient, /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Generator[Item, None, None]:
        async def start() -> AsyncGenerator[Item, None]:
            return method(self._client, *args, **kwargs)

        async def next_item() -> Item:
            return await anext(items)

        items = self._run(start())
        try:
            while True:
                try:
                    item = self._run(next_item())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            # Refused if the client was closed or an interrupt is ending the iteration: both make an end of it.
            with suppress(RuntimeError):
                self._run(items.aclose())

    return call


class LoopThread:
    """An event loop that runs in a thread of its own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        # A daemon: a client that nobody closed does not keep the program from ending.
        self._thread = Thread(target=self._serve, name="tasker-client", daemon=True)
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


class SyncTaskerClient:
    """`TaskerClient` for programs without asyncio.

    ```python
    with SyncTaskerClient("127.0.0.1:9190") as client:
        task = client.create("shop", "checkout", {"cart": [1, 2]})
        task = client.wait(task.task_uuid)
    ```

    Each method does what the async client's of that name does, with the same arguments, and returns when it is done;
    where that one is an async iterator, this one is an iterator. Threads may share a client.

    It connects when first used. Whoever makes one without `with` ends it with `close`.
    """

    def __init__(self, address: str, *, timeout_seconds: float = 30) -> None:
        """Prepare a client.

        Args:
            address: `host:port` of an orchestration service, or `unix:/path`.
            timeout_seconds: How long a call may take. Watching and waiting go on for as long as they need,
                and give up when the service has been unavailable for that long.
        """
        self._client = TaskerClient(address, timeout_seconds=timeout_seconds)
        self._lock = Lock()
        self._closed = False
        self._thread: LoopThread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    create = _waits(TaskerClient.create)
    get = _waits(TaskerClient.get)
    list = _iterates(TaskerClient.list)
    page = _waits(TaskerClient.page)
    cancel = _waits(TaskerClient.cancel)
    steps = _waits(TaskerClient.steps)
    step = _waits(TaskerClient.step)
    templates = _waits(TaskerClient.templates)
    template = _waits(TaskerClient.template)
    health = _waits(TaskerClient.health)
    watch = _iterates(TaskerClient.watch)
    wait = _waits(TaskerClient.wait)

    def close(self) -> None:
        """Close the connection, as the end of a `with` block does. Calls of other threads end with RuntimeError."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.submit(self._client.close()).result()
            thread.stop()

    def _run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Wait for some work on the event loop; what interrupts the wait ends the work, too."""
        with self._lock:
            if self._closed:
                work.close()
                raise RuntimeError(_CLOSED)
            if self._thread is None:
                self._thread = LoopThread()
            future = self._thread.submit(work)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError(_CLOSED) from None
        finally:
            future.cancel()
