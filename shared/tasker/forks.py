"""Whether gRPC can be used in this process: it does not survive a fork, and would hang without a word."""

from __future__ import annotations

import os
from typing import Final

FORKED: Final = (
    "this process was forked from one that had used gRPC, which works in the parent alone; start processes with "
    "multiprocessing's method `spawn` or `forkserver`, or use the first client after the fork"
)

#: The process that used gRPC first, of this one and those it was forked from.
_used_by: int | None = None


def use_grpc() -> None:
    """Note that this process uses gRPC.

    Raises:
        RuntimeError: A process that it was forked from did so before.
    """
    global _used_by
    if is_forked():
        raise RuntimeError(FORKED)
    _used_by = os.getpid()


def is_forked() -> bool:
    """Tell whether gRPC was used in another process, of which this one is a fork."""
    return _used_by not in (None, os.getpid())
