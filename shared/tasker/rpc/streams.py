"""How many streams may be open, of a connection and in all: who wants one too many is told, and does not wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tasker.domain.errors import TooManyStreamsError

#: Less than the transport lets through (`ServerOptions.max_concurrent_streams`): beyond that, calls wait at the client.
MOST_STREAMS_OF_CONNECTION: Final = 1000
#: Streams that nobody has to say who they are for: of a server, and of a connection.
MOST_PUBLIC_STREAMS: Final = 500
MOST_PUBLIC_STREAMS_OF_CONNECTION: Final = 50

_WATCH_MANY: Final = "watch many tasks with one stream (WatchService)"


class OpenStreams:
    """Counts the streams of one server.

    Attributes:
        count: How many are open.

    Args:
        at_most: How many may be.
        of_connection: How many of them one connection may have; `MOST_STREAMS_OF_CONNECTION` by default.
        instead: What else to do, for those who are refused.
    """

    def __init__(self, *, at_most: int, of_connection: int | None = None, instead: str = _WATCH_MANY) -> None:
        self._at_most = at_most
        self._of_connection = of_connection
        self._instead = instead
        self._of: Counter[str] = Counter()
        self.count = 0

    @contextmanager
    def one_of(self, peer: str) -> Iterator[None]:
        """Count a stream for as long as the block runs.

        Args:
            peer: Whose, as grpc names the other side. Unix sockets do not tell their clients apart: for them only the
                limit of the server holds.

        Raises:
            TooManyStreamsError: There is room for no further one.
        """
        if self.count >= self._at_most:
            raise TooManyStreamsError(
                f"the service has {self._at_most} streams open and takes no more; close some, {self._instead}, or "
                "go to another server",
                limit=self._at_most,
            )
        most = MOST_STREAMS_OF_CONNECTION if self._of_connection is None else self._of_connection
        if self._of[peer] >= most and not peer.startswith("unix:"):
            raise TooManyStreamsError(
                f"this connection has {most} streams open, and further ones would hold up other calls; "
                f"open another connection, or {self._instead}",
                limit=most,
            )
        self.count += 1
        self._of[peer] += 1
        try:
            yield
        finally:
            self.count -= 1
            self._of[peer] -= 1
            if not self._of[peer]:
                del self._of[peer]


def public_streams() -> OpenStreams:
    """Return what counts the streams that are open to everybody, so that they leave room for all other calls."""
    return OpenStreams(
        at_most=MOST_PUBLIC_STREAMS,
        of_connection=MOST_PUBLIC_STREAMS_OF_CONNECTION,
        instead="ask with single calls (Check)",
    )
