"""A process ends soon after its services have stopped, whatever handlers have left running in it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tasker.client import TaskerClient, TaskState
from tests.support import services
from tests.support.commands import Command, Ended, running
from tests.support.engine import chain

#: Much less than any handler here takes, much more than a process needs to end.
BOUND_SECONDS = 20.0

HANDLERS = """
import asyncio, logging, threading
from logging.handlers import MemoryHandler

from tasker.worker import step_handler

log = logging.getLogger("shop")
log.propagate = False
log.addHandler(MemoryHandler(1000, logging.CRITICAL, logging.StreamHandler()))


@step_handler("work")
async def work():
    print("at work", flush=True)
    log.warning("kept in memory")
    print("kept in the buffer")
"""
#: A thread of the loop's own pool that never ends, and a coroutine that will not be cancelled.
THREAD = "    await asyncio.to_thread(threading.Event().wait)\n"
TASK = """
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.warning("not cancelled")
"""
LOOSE_THREAD = "    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)\n"
leftovers = pytest.mark.parametrize("leftover", [THREAD, TASK], ids=["thread", "task"])


@asynccontextmanager
async def worker_with(
    leftover: str, database_url: str, folder: Path, *, timeout_seconds: int, shutdown_timeout_seconds: float
) -> AsyncIterator[tuple[Command, TaskerClient]]:
    """Run a worker with one step to do, whose handler leaves something behind when its time is over."""
    once = chain(1, timeout_seconds=timeout_seconds, retry={"max_attempts": 1})
    services.write_templates(folder / "templates", once)
    (folder / "shop.py").write_text(HANDLERS + leftover)
    settings = {
        "DATABASE_URL": database_url,
        "PYTHON_HANDLER_PATH": "shop",
        "TASKER_TEMPLATE_PATH": "templates",
        "TASKER_SHUTDOWN_TIMEOUT_SECONDS": str(shutdown_timeout_seconds),
    }
    async with (
        services.orchestration(database_url) as orchestration,
        TaskerClient(orchestration.address) as client,
        running("worker", cwd=folder, **settings) as worker,
    ):
        await worker.says("worker_started", on="err")
        yield worker, client


async def ended_soon(command: Command) -> Ended:
    """Ask a command to stop; return how it ended, all that it said included."""
    command.send(signal.SIGTERM)
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            return await command.ended()
    except TimeoutError:
        command.send(signal.SIGKILL)
        raise


@leftovers
async def test_what_timed_out_long_ago_does_not_hold_the_process(
    leftover: str, database_url: str, tmp_path: Path
) -> None:
    async with worker_with(
        leftover, database_url, tmp_path, timeout_seconds=1, shutdown_timeout_seconds=60
    ) as (worker, client):
        task = await client.create("test", "workflow")
        settled = await client.wait(task.task_uuid, timeout=30)
        assert settled.state is TaskState.BLOCKED_BY_FAILURES
        ended = await ended_soon(worker)
    assert ended.code == 0
    assert "worker_stopped" in ended.err
    assert "kept in memory" in ended.err
    assert "kept in the buffer" in ended.out


@leftovers
async def test_what_outlasts_the_shutdown_timeout_does_not_hold_the_process(
    leftover: str, database_url: str, tmp_path: Path
) -> None:
    async with worker_with(
        leftover, database_url, tmp_path, timeout_seconds=3600, shutdown_timeout_seconds=0.1
    ) as (worker, client):
        await client.create("test", "workflow")
        await worker.says("at work")
        ended = await ended_soon(worker)
    assert ended.code == 1
    assert "error: steps still ran when the shutdown timeout was over" in ended.err
    assert "worker_stopped" not in ended.err  # which is said of a worker whose steps all ended
    assert "kept in memory" in ended.err
    assert "kept in the buffer" in ended.out


async def test_dev_stops_its_database_all_the_same(tmp_path: Path) -> None:
    services.write_templates(tmp_path / "templates", chain(1, timeout_seconds=1, retry={"max_attempts": 1}))
    (tmp_path / "shop.py").write_text(HANDLERS + LOOSE_THREAD + TASK)
    options = ("--templates", "templates", "--handlers", "shop", "--data-dir", "data")
    ports = ("--orchestration-port", "0", "--worker-port", "0")
    async with running("dev", *options, *ports, cwd=tmp_path) as dev:
        address = await dev.says(r"orchestration +(127\.0\.0\.1:\d+)")
        async with TaskerClient(address) as client:
            task = await client.create("test", "workflow")
            await client.wait(task.task_uuid, timeout=30)
        ended = await ended_soon(dev)
    assert ended.code == 0
    assert "Stopped." in ended.out
    assert not (tmp_path / "data" / "postmaster.pid").exists()
