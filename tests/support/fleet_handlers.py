"""What the workers of these tests run; they read nothing but this file."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from pathlib import Path
from threading import Barrier
from typing import Any

from tasker.worker import StepContext, step_handler


@step_handler("work")
async def work(context: StepContext) -> dict[str, Any]:
    """Take long enough to be killed in the middle."""
    await asyncio.sleep(0.02)
    return {
        "step": context.step_name,
        "attempt": context.attempt,
        "parents": sorted(context.dependency_results),
    }


@step_handler("hang_once")
async def hang_once(context: StepContext) -> dict[str, Any]:
    """Tell that it runs, and end at the second attempt only."""
    _began(context.step_name, context.attempt).touch()
    if context.attempt == 1:
        await asyncio.Event().wait()
    return {"attempt": context.attempt}


def _square(number: int) -> int:
    return number * number


def _sleep() -> None:
    time.sleep(600)


@step_handler("forks")
def forks() -> dict[str, Any]:
    """Use processes as one would, and end one early."""
    forked = multiprocessing.get_context("fork")
    with forked.Pool(2) as pool:  # which terminates its processes
        squares = pool.map(_square, [1, 2, 3])
    child = forked.Process(target=_sleep)
    child.start()
    child.terminate()
    child.join()
    return {"squares": squares, "ended_by": child.exitcode}


@step_handler("exits_in_callback")
async def exits_in_callback() -> dict[str, Any]:
    """Have the loop itself run into an exit."""
    loop = asyncio.get_running_loop()
    after = loop.create_future()
    loop.call_soon(sys.exit, 5)
    loop.call_soon(after.set_result, None)
    await after
    return {}


_together = Barrier(8)


@step_handler("meets_in_threads")
async def meets_in_threads() -> dict[str, Any]:
    """End once eight of its kind wait in threads at the same time."""
    await asyncio.to_thread(_together.wait, 60)
    return {}


@step_handler("ends_its_process")
def ends_its_process(context: StepContext) -> None:
    """Take the whole worker down, at first with all its neighbours."""
    while context.attempt <= 2 and not all(_began(f"s{n}", context.attempt).exists() for n in range(5)):
        time.sleep(0.01)
    os._exit(1)


@step_handler("is_beside_it")
async def is_beside_it(context: StepContext) -> dict[str, Any]:
    """Run until the worker ends, the first two times."""
    _began(context.step_name, context.attempt).touch()
    if context.attempt <= 2:
        await asyncio.Event().wait()
    return {}


def _began(step_name: str, attempt: int) -> Path:
    return Path(os.environ["CHAOS_FOLDER"]) / f"{step_name}-{attempt}"
