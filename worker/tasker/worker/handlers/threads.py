"""The threads that sync handlers run in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Returned = TypeVar("_Returned")


class HandlerThreads(ThreadPoolExecutor):
    """Threads that are used again, but forget which event loop was set in them.

    What else is kept by thread (`threading.local`) stays for whatever runs there next: nothing can forget that.
    """

    def submit(
        self, fn: Callable[_Arguments, _Returned], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> Future[_Returned]:
        """Run a function in a thread."""
        return super().submit(_and_forget_loop, fn, *args, **kwargs)


def _and_forget_loop(
    work: Callable[_Arguments, _Returned], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Returned:
    try:
        return work(*args, **kwargs)
    finally:
        asyncio.set_event_loop(None)
