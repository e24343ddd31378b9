"""How many streams may be open, of a connection and in all: who wants one too many is told, and does not wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tasker.domain.errors import TooManyStreamsError

#: Less than the transport lets through (`ServerOptions.max_concurrent_streams`): beyond that, calls wait at the client.
MOST_STREAMS_OF_CONNECTION: Final = 1000


class OpenStreams:
    """Counts the streams of one server.

    Attributes:
        count: How many are open.

    Args:
        at_most: How many may be.
    """

    def __init__(self, *, at_most: int) -> None:
        self._at_most = at_most
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
                f"the service has {self._at_most} streams open and takes no more; close some, watch many tasks with "
                "one stream (WatchService), or go to another orchestrator",
                limit=self._at_most,
            )
        if self._of[peer] >= MOST_STREAMS_OF_CONNECTION and not peer.startswith("unix:"):
            raise TooManyStreamsError(
                f"this connection has {MOST_STREAMS_OF_CONNECTION} streams open, and further ones would hold up its "
                "other calls; open another connection, or watch many tasks with one stream (WatchService)",
                limit=MOST_STREAMS_OF_CONNECTION,
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
