"""Keeps what handlers do to the process that they run in from reaching it.

asyncio lets `SystemExit` and `KeyboardInterrupt` through to whoever runs the event loop when a task ends by one of
them, so `sys.exit` in a part of a handler would end the worker. In tasks that belong to a handler they become an
exception that ends the handler only.
"""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Final

_Work = Coroutine[Any, Any, Any] | Generator[Any, None, Any]

_EXITS: Final = (SystemExit, KeyboardInterrupt)
_in_handler: ContextVar[bool] = ContextVar("tasker_in_handler", default=False)


class HandlerExit(BaseException):
    """A part of a handler asked the process to end; the cause is what it raised."""


def contain_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have the loop contain every task that a handler starts; whoever set a factory before keeps making them."""
    before = loop.get_task_factory()
    if isinstance(before, _ContainingFactory):
        return
    loop.set_task_factory(_ContainingFactory(before))


def enter_handler() -> None:
    """Mark the current context, and all that are copied from it, as a handler's; its decimal arithmetic is its own.

    A copied context shares the decimal context, an object that handlers change.
    """
    _in_handler.set(True)
    decimal.setcontext(decimal.Context())


def escaped_from(error: BaseException) -> BaseException:
    """Return what really escaped from a handler: the exit that stands behind a `HandlerExit`, alone or in a group."""
    if isinstance(error, HandlerExit) and error.__cause__ is not None:
        return error.__cause__
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            if isinstance(found := escaped_from(one), _EXITS):
                return found
    return error


class _ContainingFactory:
    """Makes tasks as the factory before did, or as asyncio does."""

    def __init__(self, before: Callable[..., Any] | None) -> None:
        self._make = before or _as_asyncio_does

    def __call__(self, loop: asyncio.AbstractEventLoop, work: _Work, **options: Any) -> Any:
        if _in_handler.get() and asyncio.iscoroutine(work):
            work = _contained(work)
        return self._make(loop, work, **options)


def _as_asyncio_does(loop: asyncio.AbstractEventLoop, work: _Work, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(work, loop=loop, **options)


async def _contained(work: Any) -> Any:
    try:
        return await work
    except _EXITS as error:
        raise HandlerExit(f"{type(error).__name__} in a task of a handler") from error
