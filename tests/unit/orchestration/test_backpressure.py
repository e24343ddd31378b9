"""How much may wait: what a depth means, whom it refuses, and that nothing known refuses nobody."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tasker.config.settings import OrchestrationSettings, SettingsError
from tasker.domain.backpressure import BackpressureError, DepthLimits, PressureLevel
from tasker.orchestration.engine.backpressure import STALE_SECONDS, Backpressure
from tasker.persistence.reading.backlogs import Backlog

LIMITS = DepthLimits(warning=10, critical=50, overflow=100)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backpressure(clock: Clock) -> Backpressure:
    return Backpressure(worker_queues=LIMITS, result_queues=DepthLimits(1, 5, 10), clock=clock)


@pytest.mark.parametrize(
    ("depth", "level"),
    [(0, "NORMAL"), (9, "NORMAL"), (10, "WARNING"), (49, "WARNING"), (50, "CRITICAL"), (100, "OVERFLOW")],
)
def test_a_depth_has_a_level(depth: int, level: str) -> None:
    assert LIMITS.level(depth) is PressureLevel[level]


def test_what_is_not_known_refuses_nobody(backpressure: Backpressure) -> None:
    assert backpressure.admit("shop") is None
    assert backpressure.raised is None


def test_a_little_is_not_worth_a_word(backpressure: Backpressure) -> None:
    backpressure.note([Backlog("shop", 9), Backlog(None, 0)])
    assert backpressure.admit("shop") is None
    assert backpressure.admit("unheard-of") is None
    assert backpressure.raised == []


def test_much_is_told(backpressure: Backpressure) -> None:
    backpressure.note([Backlog("shop", 49), Backlog("bank", 0), Backlog(None, 0)])
    told = backpressure.admit("shop")
    assert told is not None
    assert (told.depth, told.limit, told.reason) == (49, 50, "49 steps of namespace 'shop' wait for workers")
    assert backpressure.admit("bank") is None


@pytest.mark.parametrize(("depth", "seconds"), [(50, 30), (100, 60)])
def test_too_much_is_refused_where_it_is(backpressure: Backpressure, depth: int, seconds: int) -> None:
    backpressure.note([Backlog("shop", depth), Backlog("bank", 0), Backlog(None, 0)])
    with pytest.raises(BackpressureError) as caught:
        backpressure.admit("shop")
    assert caught.value.retry_after_seconds == seconds
    assert caught.value.metadata == {
        "queue_depth": str(depth), "max_queue_depth": "50", "retry_after_seconds": str(seconds),
    }  # fmt: skip
    assert backpressure.admit("bank") is None


def test_results_that_wait_concern_everybody(backpressure: Backpressure) -> None:
    backpressure.note([Backlog("shop", 20), Backlog(None, 6)])
    for namespace in ("shop", "bank"):
        with pytest.raises(BackpressureError, match="6 results wait to be processed"):
            backpressure.admit(namespace)


def test_what_was_read_long_ago_refuses_nobody(backpressure: Backpressure, clock: Clock) -> None:
    backpressure.note([Backlog("shop", 100)])
    clock.now += STALE_SECONDS
    with pytest.raises(BackpressureError):
        backpressure.admit("shop")
    clock.now += 0.1
    assert backpressure.admit("shop") is None


def test_the_worst_comes_first(backpressure: Backpressure) -> None:
    backpressure.note(
        [Backlog("a", 20), Backlog("b", 0), Backlog("c", 60), Backlog("d", 30), Backlog(None, 0)]
    )
    assert [one.namespace for one in backpressure.raised or ()] == ["c", "d", "a"]


def test_the_log_says_when_it_begins_and_ends(backpressure: Backpressure) -> None:
    with capture_logs() as lines:
        for depth in (9, 60, 70, 0):
            backpressure.note([Backlog("shop", depth)])
    assert [(line["level"], line["depth"]) for line in lines] == [("critical", 60), ("normal", 0)]


def test_limits_come_from_the_environment_and_must_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://localhost/nothing"
    settings = OrchestrationSettings.load(database_url=url)
    assert settings.worker_queue_limits == DepthLimits(100_000, 1_000_000, 2_000_000)
    assert settings.result_queue_limits == DepthLimits(10_000, 100_000, 200_000)
    monkeypatch.setenv("TASKER_WORKER_QUEUE_WARNING_DEPTH", "1000001")
    with pytest.raises(SettingsError) as caught:
        OrchestrationSettings.load(database_url=url)
    assert str(caught.value) == (
        "TASKER_WORKER_QUEUE_CRITICAL_DEPTH: 1000000 is less than TASKER_WORKER_QUEUE_WARNING_DEPTH, which is 1000001"
    )
    monkeypatch.setenv("TASKER_WORKER_QUEUE_CRITICAL_DEPTH", "1000002")
    assert OrchestrationSettings.load(database_url=url).worker_queue_limits.critical == 1_000_002
