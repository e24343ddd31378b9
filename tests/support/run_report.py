"""Says what a run runs, on which servers, and how long it still takes."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support import servers

_SECONDS_BETWEEN_LINES: Final = 15.0
#: What comes first says little about the rest.
_TELLING_PART: Final = 0.03


class RunReport:
    """Writes plain lines: what is to come, and now and then how far it is and how long the rest may take.

    The rest is estimated by the groups it is of: a test of `unit` takes milliseconds and one of `chaos` seconds.
    """

    def __init__(self, write: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._began = self._said = clock()
        self._planned: Counter[str] = Counter()
        self._done: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def announce(self, tests: Sequence[str], on: Sequence[str]) -> None:
        """Say how many tests of which groups run on which servers."""
        if self._planned:  # every process of a run collects the same
            return
        self._planned.update(map(group, tests))
        groups = ", ".join(f"{count:,} {name}" for name, count in sorted(self._planned.items()))
        self._write("\n".join([f"{len(tests):,} tests: {groups}", *on]))

    def finished(self, test: str, seconds: float, *, is_over: bool) -> None:
        """Count a part of a test: what it took, and whether nothing of it is left."""
        self._seconds[group(test)] += seconds
        self._done[group(test)] += is_over
        now = self._clock()
        if is_over and now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            self._write(self._line(now - self._began))

    def _line(self, elapsed: float) -> str:
        done, planned = self._done.total(), self._planned.total()
        line = f"{done:,} of {planned:,} tests, {done / max(planned, 1):.0%}, {spelled(elapsed)}"
        left = self._left(elapsed)
        return line if left is None else f"{line}; about {spelled(left)} left"

    def _left(self, elapsed: float) -> float | None:
        """Estimate the seconds left: those of the tests left, by how much of them the processes do in a second."""
        spent = sum(self._seconds.values())
        if not spent or self._done.total() < _TELLING_PART * self._planned.total():
            return None
        usual = spent / self._done.total()
        to_do = sum(
            (planned - self._done[name])
            * (self._seconds[name] / self._done[name] if self._done[name] else usual)
            for name, planned in self._planned.items()
        )
        return to_do * elapsed / spent


def group(test: str) -> str:
    """Return the group of a test by its id: the folder below `tests`."""
    found = re.match(r"(?:tests/)?(\w+)/", test)
    return found[1] if found else "other"


def spelled(seconds: float) -> str:
    """Return a duration for people."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def found_servers() -> Iterator[str]:
    """Say which PostgreSQL servers the tests run on."""
    yield f"embedded PostgreSQL: {_version(servers.postgres_programs())}"
    system = servers.system_programs()
    yield f"system PostgreSQL: {_version(system) if system else 'none installed, its tests are skipped'}"


def _version(programs: Path) -> str:
    said = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.split()[2]


class RunReportPlugin:
    """Tells how far the run is that pytest reports, whether in one process or in several."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager
        self._report = RunReport(self._write)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """With one process the tests are known when they are collected."""
        if session.items:
            self._announce([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """With several, when the first of them has collected."""
        self._announce(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count each part of a test."""
        self._report.finished(report.nodeid, report.duration, is_over=report.when == "teardown")

    def _announce(self, tests: Sequence[str]) -> None:
        is_of_database = any(group(test) != "unit" for test in tests)
        self._report.announce(tests, list(found_servers()) if is_of_database else [])

    def _write(self, line: str) -> None:
        if (reporter := self._plugins.getplugin("terminalreporter")) is not None:
            reporter.write(f"\n{line}\n")
