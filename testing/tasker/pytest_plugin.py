"""Fixtures of pytest for tests of workflows. They import nothing until a test asks for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tasker.testing import Engine


@pytest.fixture(scope="session")
def _tasker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine for the whole run: starting it takes seconds, running a task milliseconds."""
    from tasker.testing import Engine

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the processes of a run share a server
    with Engine.embedded(folder / "tasker-postgres") as engine:
        yield engine


@pytest.fixture
def tasker_engine(_tasker_engine: Engine) -> Iterator[Engine]:
    """Runs whole tasks on a real PostgreSQL, with a clock that can be moved; empty at the start of each test."""
    yield _tasker_engine
    _tasker_engine.reset()
