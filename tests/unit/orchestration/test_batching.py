"""Calls that share a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tasker.orchestration.engine.batching import Batcher


async def test_what_arrives_during_a_batch_makes_the_next_one() -> None:
    batches: list[list[int]] = []
    running, go_on = asyncio.Event(), asyncio.Event()

    async def run(items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        running.set()
        await go_on.wait()
        return [item * 10 for item in items]

    batcher = Batcher[int, int](run, max_size=10)
    await batcher.start()
    first = asyncio.create_task(batcher.submit(1))
    await running.wait()
    others = [asyncio.create_task(batcher.submit(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30]
    assert batches == [[1], [2, 3]]
    await batcher.stop()


async def test_stopping_finishes_the_batch_in_flight() -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    async def run(items: Sequence[int]) -> Sequence[int]:
        running.set()
        await go_on.wait()
        return items

    batcher = Batcher[int, int](run, max_size=10)
    await batcher.start()
    call = asyncio.create_task(batcher.submit(1))
    await running.wait()
    stop = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stop
    assert await call == 1


async def test_a_failing_item_fails_alone_and_a_failing_batch_together() -> None:
    async def run(items: Sequence[str]) -> Sequence[str | BaseException]:
        if "all" in items:
            raise ValueError("the batch")
        return [ValueError("the item") if item == "one" else item for item in items]

    batcher = Batcher[str, str](run, max_size=10)
    await batcher.start()
    outcomes = await asyncio.gather(batcher.submit("one"), batcher.submit("fine"), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the item", "fine"]
    with pytest.raises(ValueError, match="the batch"):
        await batcher.submit("all")
    await batcher.stop()
