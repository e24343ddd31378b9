"""Waiting for a database that is away."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from structlog.testing import capture_logs

from tasker.persistence.failures import patiently


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note the pauses instead of making them."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    return made


class Database:
    """Fails a few times in some way, and then answers."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)

    async def call(self) -> str:
        if self._failures:
            raise self._failures.pop(0)
        return "done"


async def test_an_answer_at_once_takes_no_pause(pauses: list[float]) -> None:
    assert await patiently(Database().call, "interrupted") == "done"
    assert pauses == []


async def test_pauses_double_up_to_the_longest_and_each_is_logged(pauses: list[float]) -> None:
    away = [psycopg.OperationalError("away") for _ in range(8)]
    with capture_logs() as logs:
        assert await patiently(Database(*away).call, "interrupted", results=3) == "done"
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [entry.pop("retry_seconds") for entry in logs] == pauses
    expected = {"event": "interrupted", "log_level": "warning", "error": "OperationalError", "results": 3}
    assert logs == [expected] * 8


async def test_the_longest_pause_may_be_shorter(pauses: list[float]) -> None:
    away = [OSError() for _ in range(5)]
    await patiently(Database(*away).call, "interrupted", longest_pause_seconds=0.3)
    assert pauses == [0.1, 0.2, 0.3, 0.3, 0.3]


async def test_another_failure_is_raised_at_once(pauses: list[float]) -> None:
    with pytest.raises(LookupError):
        await patiently(Database(OSError(), LookupError()).call, "interrupted")
    assert pauses == [0.1]


async def test_a_caller_may_outlast_every_failure(pauses: list[float]) -> None:
    database = Database(LookupError(), ValueError())
    assert await patiently(database.call, "interrupted", outlasts=lambda _: True) == "done"
    assert pauses == [0.1, 0.2]
