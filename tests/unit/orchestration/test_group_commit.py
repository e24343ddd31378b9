"""Calls that share a group."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tasker.orchestration.engine.group_commit import GroupCommit


async def test_what_arrives_during_a_group_makes_the_next_one() -> None:
    groups: list[list[int]] = []
    running, go_on = asyncio.Event(), asyncio.Event()

    async def run(items: Sequence[int]) -> Sequence[int]:
        groups.append(list(items))
        running.set()
        await go_on.wait()
        return [item * 10 for item in items]

    commits = GroupCommit[int, int](run, max_size=10)
    await commits.start()
    first = asyncio.create_task(commits.submit(1))
    await running.wait()
    others = [asyncio.create_task(commits.submit(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30]
    assert groups == [[1], [2, 3]]
    await commits.stop()


async def test_stopping_finishes_the_group_in_flight() -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    async def run(items: Sequence[int]) -> Sequence[int]:
        running.set()
        await go_on.wait()
        return items

    commits = GroupCommit[int, int](run, max_size=10)
    await commits.start()
    call = asyncio.create_task(commits.submit(1))
    await running.wait()
    stop = asyncio.create_task(commits.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stop
    assert await call == 1


async def test_a_failing_item_fails_alone_and_a_failing_group_together() -> None:
    async def run(items: Sequence[str]) -> Sequence[str | BaseException]:
        if "all" in items:
            raise ValueError("the group")
        return [ValueError("the item") if item == "one" else item for item in items]

    commits = GroupCommit[str, str](run, max_size=10)
    await commits.start()
    answers = await asyncio.gather(commits.submit("one"), commits.submit("fine"), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["the item", "fine"]
    with pytest.raises(ValueError, match="the group"):
        await commits.submit("all")
    await commits.stop()
