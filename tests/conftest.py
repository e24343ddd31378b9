"""Fixtures: servers once a run, a migrated database of its own for each test, an engine to drive by hand."""

from __future__ import annotations

import os

# The tests fork to start processes while gRPC's threads run. gRPC's fork handlers, meant for children that go on to use
# gRPC, hang now and then in the child or the parent, and say at best that they were skipped. Our children exec at once
# and need none. gRPC reads this when it is imported, so it stands before all other imports.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tasker.persistence.migrations import migrate
from tests import servers
from tests.engine import Engine

_FOLDER = "TASKER_TEST_FOLDER"

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A run in the background of a script starts with SIGINT ignored, and so would every program that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Give all processes of the run one folder for the server that they share."""
    if not hasattr(config, "workerinput"):
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="tasker-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[_FOLDER], ignore_errors=True)


@pytest.fixture(scope="session")
def embedded_url() -> Iterator[str]:
    with servers.embedded(Path(os.environ[_FOLDER]) / "embedded") as url:
        yield url


@pytest.fixture(scope="session")
def system_url(embedded_url: str) -> Iterator[str]:
    if servers.system_binaries() is None:
        pytest.skip("no PostgreSQL is installed on this system")
    with servers.system(Path(os.environ[_FOLDER]) / f"system-{uuid4().hex[:8]}") as url:
        yield url


@pytest.fixture(scope="session")
def embedded_template(embedded_url: str) -> str:
    return _template(embedded_url)


@pytest.fixture(scope="session")
def system_template(system_url: str) -> str:
    return _template(system_url)


@pytest.fixture
def database_url(embedded_template: str) -> Iterator[str]:
    """A migrated database of the test's own, on the embedded server."""
    yield from _copy(embedded_template)


@pytest.fixture(scope="module")
def module_database_url(embedded_template: str) -> Iterator[str]:
    """One for all tests of a module, which share services too."""
    yield from _copy(embedded_template)


@pytest.fixture(params=["embedded", "system"])
def any_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same on each server there is."""
    yield from _copy(request.getfixturevalue(f"{request.param}_template"))


@pytest.fixture
def empty_database_url(embedded_url: str) -> Iterator[str]:
    """A database without our schema."""
    yield from _create(embedded_url, template=None)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """The engine without services: the test decides what happens when."""
    async with Engine(database_url) as engine:
        yield engine


@pytest.fixture
async def any_engine(any_database_url: str) -> AsyncIterator[Engine]:
    """The same on each server there is."""
    async with Engine(any_database_url) as engine:
        yield engine


@pytest.fixture
def another_engine(database_url: str) -> Callable[[], Engine]:
    """Makes further engines on the test's database."""
    return lambda: Engine(database_url)


def _template(url: str) -> str:
    """Return the URL of a migrated database to copy from."""
    template = next(_create(url, template=None, keep=True))
    migrate(template)
    return template


def _copy(template: str) -> Iterator[str]:
    yield from _create(template, template=template)


def _create(url: str, *, template: str | None, keep: bool = False) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    base, _, query = url.rpartition("?")
    root, _, source = base.rpartition("/")
    with psycopg.connect(f"{root}/postgres?{query}", autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(source))
        connection.execute(statement)
        yield f"{root}/{name}?{query}"
        if not keep:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
