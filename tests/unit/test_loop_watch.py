"""A blocked event loop is noticed from outside, named in the log, and remembered for a while."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tasker.telemetry import loop_watch
from tasker.telemetry.loop_watch import LoopWatch
from tests.support.waiting import PATIENCE_SECONDS, until


class Log:
    """Takes lines, and lets a thread wait for one."""

    def __init__(self) -> None:
        self.lines: dict[str, dict[str, Any]] = {}
        self.blocked = threading.Event()

    def error(self, event: str, **facts: Any) -> None:
        self.lines[event] = facts
        self.blocked.set()

    def warning(self, event: str, **facts: Any) -> None:
        self.lines[event] = facts


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(loop_watch, "log", log)
    return log


def block_the_loop(log: Log) -> None:
    """Keep the loop from its work until the log says that it was noticed."""
    assert log.blocked.wait(PATIENCE_SECONDS)


async def test_a_blocked_loop_is_named_at_once_and_remembered_afterwards(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = LoopWatch(longest_seconds=0.05)
    watch.start()
    try:
        assert watch.problem is None
        block_the_loop(log)
        noticed = log.lines["event_loop_blocked"]
        assert any(call.startswith("block_the_loop ") for call in noticed["calls"])
        problem = await until(lambda: watch.problem)
        assert problem.startswith("the event loop was blocked for 0.")
        assert "event_loop_goes_on" in log.lines
        monkeypatch.setattr(loop_watch, "_REMEMBERED_SECONDS", 0)
        assert watch.problem is None
    finally:
        watch.stop()


async def test_a_loop_that_works_is_left_alone(log: Log) -> None:
    watch = LoopWatch(longest_seconds=PATIENCE_SECONDS)
    watch.start()
    watch.stop()
    await asyncio.to_thread(watch._ask)  # ends when the loop has answered
    assert (watch.problem, log.lines) == (None, {})
