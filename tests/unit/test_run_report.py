"""What a run of the tests says of itself."""

from __future__ import annotations

from tests.support.run_report import RunReport, spelled

TESTS = [f"tests/unit/test_a.py::test_{n}" for n in range(80)]
TESTS += [f"tests/chaos/test_b.py::test_{n}" for n in range(20)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def report(said: list[str], clock: Clock) -> RunReport:
    report = RunReport(said.append, clock=clock)
    report.announce(TESTS, ["embedded PostgreSQL: 18.1"])
    return report


def test_it_says_once_what_is_to_come() -> None:
    said: list[str] = []
    report(said, Clock()).announce(TESTS, [])
    assert said == ["100 tests: 20 chaos, 80 unit\nembedded PostgreSQL: 18.1"]


def test_it_says_now_and_then_how_long_the_rest_takes() -> None:
    said: list[str] = []
    clock = Clock()
    running = report(said, clock)
    # Two processes: in 20 s they spend 40 s, nearly all of it on chaos.
    for n in range(40):
        running.finished(TESTS[n], 0.1, is_over=True)
    clock.now = 20
    for n in range(9):
        running.finished(TESTS[80 + n], 4, is_over=False)
    assert said[1:] == []
    running.finished(TESTS[89], 0, is_over=True)
    # 40 of unit are left, 4 s, and 19 of chaos, of which one that is over took 36 s.
    assert said[1:] == ["41 of 100 tests, 41%, 20 s; about 5 min 44 s left"]
    running.finished(TESTS[90], 4, is_over=True)
    assert len(said) == 2


def test_it_keeps_to_itself_what_it_cannot_know_yet() -> None:
    said: list[str] = []
    clock = Clock()
    running = report(said, clock)
    clock.now = 30
    running.finished(TESTS[0], 0.1, is_over=True)
    assert said[1:] == ["1 of 100 tests, 1%, 30 s"]


def test_durations_are_spelled_for_people() -> None:
    assert [spelled(seconds) for seconds in (0.4, 59, 61.2, 600)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "10 min 0 s",
    ]
