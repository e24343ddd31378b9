"""Reading for all watchers: when a pause follows."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tasker.domain.uuids import uuid7
from tasker.orchestration.engine import watching
from tasker.orchestration.engine.feeds import TaskWish
from tasker.orchestration.engine.watching import MANY_STREAMS, Watching


class DeafListener:
    """Hears nothing."""

    is_connected = True

    def subscribe(self, channel: str) -> asyncio.Event:
        return asyncio.Event()


async def test_streams_of_every_kind_count_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    async def announced(*args: Any, **kwargs: Any) -> None:
        """Nobody else needs to know."""

    monkeypatch.setattr(watching, "announce_watcher", announced)
    nothing: Any = None
    listener: Any = DeafListener()
    watchers = Watching(nothing, nothing, nothing, listener)
    async with AsyncExitStack() as stack:
        for number in range(MANY_STREAMS):
            of_all = number % 2
            await stack.enter_async_context(
                watchers.tasks(TaskWish(), steps=False) if of_all else watchers.task(uuid7(), steps=False)
            )
        seen = [watchers.has_many_streams]
        for one_more in (watchers.tasks(TaskWish(), steps=True), watchers.task(uuid7(), steps=True)):
            async with one_more:
                seen.append(watchers.has_many_streams)
            seen.append(watchers.has_many_streams)
    assert seen == [False, True, False, True, False]
