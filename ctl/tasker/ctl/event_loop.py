"""The event loop that a command runs on, and what becomes of what is left on it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import uvloop

Returned = TypeVar("Returned")

#: How long tasks, and then threads, may still go on after everything has stopped; few of them need any of it.
LEFTOVER_SECONDS: Final = 2.0


def run(main: Coroutine[Any, Any, Returned]) -> Returned:
    """Run a coroutine on the fastest event loop there is.

    Afterwards tasks that are left are cancelled. Neither those that do not care, nor threads, can hold up the caller
    for longer than a moment; `asyncio.run` would wait for all of them.
    """
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    loop = runner.get_loop()
    try:
        return _run_to_its_end(runner, loop.create_task(main))
    finally:
        try:
            runner.run(_end_tasks())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _run_to_its_end(runner: asyncio.Runner, main: asyncio.Task[Returned]) -> Returned:
    """Run until the coroutine ends; a callback that raises SystemExit stops the loop, and shall not end a service."""
    while True:
        try:
            return runner.run(_result_of(main))
        except SystemExit as error:
            if main.done():
                raise
            from tasker.telemetry.logs import get_logger  # here: next to no command comes to this point

            get_logger(__name__).error("exit_in_callback_ignored", exc_info=error)


async def _result_of(main: asyncio.Task[Returned]) -> Returned:
    return await main


async def _end_tasks() -> None:
    """Cancel the tasks that are left, then close the generators that are open; leave behind what goes on."""
    loop = asyncio.get_running_loop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, going_on = await asyncio.wait(left, timeout=LEFTOVER_SECONDS)
        if going_on:
            from tasker.telemetry.logs import get_logger  # here: next to no command comes to this point

            get_logger(__name__).warning("tasks_left_behind", count=len(going_on))
            return
    await asyncio.wait({loop.create_task(loop.shutdown_asyncgens())}, timeout=LEFTOVER_SECONDS)
