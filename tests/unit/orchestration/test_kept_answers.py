"""Answers that are kept: one computation for all who ask within a while."""

from __future__ import annotations

import asyncio

import pytest

from tasker.orchestration.engine.kept_answers import KeptAnswers


class Questions:
    """Counts what is computed, and lets the test say when an answer comes, and which."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = 0.0
        self.released = asyncio.Event()
        self.released.set()
        self.failing = False
        self.kept: KeptAnswers[str, str] = KeptAnswers(
            self._compute, seconds=60, timeout_seconds=600, clock=lambda: self.now
        )

    async def _compute(self, key: str) -> str:
        self.asked.append(key)
        await self.released.wait()
        if self.failing:
            raise ConnectionError("away")
        return f"{key}{len(self.asked)}"


@pytest.fixture
async def questions() -> Questions:
    return Questions()


async def test_an_answer_is_kept_for_as_long_as_said(questions: Questions) -> None:
    assert await questions.kept.get("a") == "a1"
    questions.now = 59.9
    assert await questions.kept.get("a") == "a1"
    assert await questions.kept.get("b") == "b2"
    questions.now = 60
    assert await questions.kept.get("a") == "a3"
    assert questions.asked == ["a", "b", "a"]


async def test_those_who_ask_meanwhile_get_the_same_answer(questions: Questions) -> None:
    questions.released.clear()
    first, second = asyncio.create_task(questions.kept.get("a")), asyncio.create_task(questions.kept.get("a"))
    await asyncio.sleep(0)
    questions.released.set()
    assert (await first, await second) == ("a1", "a1")


async def test_one_who_leaves_takes_the_answer_from_nobody(questions: Questions) -> None:
    questions.released.clear()
    leaving, staying = (
        asyncio.create_task(questions.kept.get("a")),
        asyncio.create_task(questions.kept.get("a")),
    )
    await asyncio.sleep(0)
    leaving.cancel()
    questions.released.set()
    assert await staying == "a1"
    assert leaving.cancelled()


async def test_a_failure_is_not_kept(questions: Questions) -> None:
    questions.failing = True
    with pytest.raises(ConnectionError):
        await questions.kept.get("a")
    questions.failing = False
    assert await questions.kept.get("a") == "a2"


async def test_one_that_takes_too_long_is_given_up() -> None:
    given_up = asyncio.Event()

    async def for_ever(_: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        return ""

    kept = KeptAnswers(for_ever, seconds=60, timeout_seconds=0.01)
    with pytest.raises(TimeoutError):
        await kept.get("a")
    assert given_up.is_set()


async def test_nothing_goes_on_after_the_end(questions: Questions) -> None:
    questions.released.clear()
    asking = asyncio.create_task(questions.kept.get("a"))
    await asyncio.sleep(0)
    await questions.kept.stop()
    with pytest.raises(asyncio.CancelledError):
        await asking
