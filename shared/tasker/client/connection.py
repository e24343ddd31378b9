"""Channels to a service: opened when first used, every call with a deadline, repeated where that is safe."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from grpc import aio
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

from tasker.client.access import Access, AccessOptions
from tasker.client.errors import UnavailableError, client_error
from tasker.forks import is_forked, use_grpc
from tasker.v1 import tasks_pb2_grpc, watch_pb2_grpc

Answer = TypeVar("Answer")

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # a task may have many steps with large results
    ("grpc.keepalive_time_ms", 30_000),  # so that a silent stream notices a server that is gone
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

#: Streams of one channel; further ones get another, long before the service refuses them.
_MOST_STREAMS: Final = 500

_BACKOFF: Final = wait_random_exponential(multiplier=0.1, max=2)


@dataclass(slots=True)
class WatchStubs:
    """The stubs of streams on a channel of their own.

    Attributes:
        channel: The channel.
        tasks: Watches single tasks.
        watch: Watches many.
        streams: How many are open.
    """

    channel: aio.Channel
    tasks: tasks_pb2_grpc.TaskServiceAsyncStub
    watch: watch_pb2_grpc.WatchServiceAsyncStub
    streams: int = 0


class Connection:
    """The channels of one client, on one event loop: one for calls, and as many as it takes for streams.

    A connection carries a limited number of calls at once, and further ones wait: calls must not wait for streams.
    """

    def __init__(self, address: str, *, timeout_seconds: float, access: AccessOptions | None = None) -> None:
        self.address = address
        self._access = Access(address, **(access or {}))
        self.timeout_seconds = timeout_seconds
        self._channel: aio.Channel | None = None
        self._watches: list[WatchStubs] = []
        self._closed = False

    @property
    def channel(self) -> aio.Channel:
        """The channel; opened by the first use.

        Raises:
            RuntimeError: The client was closed.
        """
        self.check_open()
        if self._channel is None:
            self._channel = self._open()
        return self._channel

    @contextmanager
    def watching(self) -> Iterator[WatchStubs]:
        """Lend a channel for one stream.

        Raises:
            RuntimeError: The client was closed.
        """
        self.check_open()
        stubs = next((one for one in self._watches if one.streams < _MOST_STREAMS), None)
        if stubs is None:
            # Its own connection, too: grpc would share that of another channel to the same address.
            channel = self._open(("grpc.use_local_subchannel_pool", 1))
            stubs = WatchStubs(
                channel, tasks_pb2_grpc.TaskServiceStub(channel), watch_pb2_grpc.WatchServiceStub(channel)
            )
            self._watches.append(stubs)
        stubs.streams += 1
        try:
            yield stubs
        finally:
            stubs.streams -= 1

    def _open(self, *options: tuple[str, int]) -> aio.Channel:
        return self._access.open_channel((*_CHANNEL_OPTIONS, *options))

    def check_open(self) -> None:
        """Raise RuntimeError if the client was closed, or cannot be used in this process."""
        if self._closed:
            raise RuntimeError(f"the client of {self.address} is closed; make another one")
        use_grpc()

    async def close(self) -> None:
        """Close the channels; calls at hand are cancelled."""
        self._closed = True
        if is_forked():
            return  # the channels are the parent's
        if self._channel is not None:
            await self._channel.close(None)
        for stubs in self._watches:
            await stubs.channel.close(None)

    async def call(
        self,
        method: Callable[..., Awaitable[Answer]],
        request: object,
        *,
        timeout: float | None,
        repeatable: bool = True,
    ) -> Answer:
        """Call a method.

        Args:
            method: Of a stub on this channel.
            request: What to send.
            timeout: Seconds for the call with all its repetitions; None means the client's own.
            repeatable: Whether to repeat it while the service is unavailable.

        Raises:
            TaskerClientError: It failed.
            RuntimeError: The client was closed.
        """
        self.check_open()
        seconds = self.timeout_seconds if timeout is None else timeout
        deadline = time.monotonic() + seconds

        async def attempt() -> Answer:
            try:
                return await method(request, timeout=max(0.001, deadline - time.monotonic()))
            except aio.AioRpcError as error:
                raise client_error(error) from None

        if not repeatable:
            return await attempt()
        return await AsyncRetrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_before_delay(seconds),
            wait=_pause,
            reraise=True,
        )(attempt)


def _pause(state: RetryCallState) -> float:
    """Return how long to wait: what the service asked for, else a growing random time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_seconds if isinstance(error, UnavailableError) else None
    return max(asked or 0, _BACKOFF(state))
