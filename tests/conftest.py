"""Fixtures: servers once a run, a migrated database that is wiped after each test, an engine to drive by hand."""

from __future__ import annotations

import os

# The tests fork to start processes while gRPC's threads run. gRPC's fork handlers, meant for children that go on to use
# gRPC, hang now and then in the child or the parent, and say at best that they were skipped. Our children exec at once
# and need none. gRPC reads this when it is imported, so it stands before all other imports.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import gc
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from tasker.persistence import scratch
from tasker.telemetry.logs import PROCESSORS
from tests.support import databases, servers
from tests.support.databases import KeptDatabase
from tests.support.engine import Engine
from tests.support.run_report import RunReportPlugin
from tests.support.warmth import WARMTH

_FOLDER = "TASKER_TEST_FOLDER"

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A run in the background of a script starts with SIGINT ignored, and so would every program that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# One list for the lines of the services and all others, so that `structlog.testing.capture_logs` catches both.
structlog.configure(processors=PROCESSORS)


def pytest_configure(config: pytest.Config) -> None:
    """Give all processes of the run one folder for the server that they share, and have the first tell of the run."""
    if not hasattr(config, "workerinput"):
        os.environ[_FOLDER] = str(servers.new_folder())
        if config.get_verbosity() >= 0 and not config.option.collectonly:
            config.pluginmanager.register(RunReportPlugin(config), "run_report")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the hot path on both ways, save those that are about one of them."""
    marked = metafunc.definition.get_closest_marker
    if marked("both_ways") and not marked("long_way") and "way" in metafunc.fixturenames:
        metafunc.parametrize("way", ["long", "short"])


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays until the end: thousands of tests and all that they import."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers and remove it."""
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ[_FOLDER])
        servers.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def embedded_url() -> str:
    return servers.embedded(Path(os.environ[_FOLDER]))


@pytest.fixture(scope="session")
def system_url() -> str:
    url = servers.system(Path(os.environ[_FOLDER]))
    if url is None:
        pytest.skip("no PostgreSQL is installed on this system")
    return url


@pytest.fixture(scope="session")
def embedded_template(embedded_url: str) -> str:
    return scratch.migrated(embedded_url)


@pytest.fixture(scope="session")
def system_template(system_url: str) -> str:
    return scratch.migrated(system_url)


@pytest.fixture(scope="session")
def kept_embedded(embedded_template: str) -> Iterator[KeptDatabase]:
    with databases.kept(embedded_template) as database:
        yield database


@pytest.fixture(scope="session")
def kept_system(system_template: str) -> Iterator[KeptDatabase]:
    with databases.kept(system_template) as database:
        yield database


@pytest.fixture(scope="session")
async def warmth() -> AsyncIterator[None]:
    """Sessions outlive the tests that opened them."""
    with WARMTH.lent():
        yield


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database on the embedded server."""
    with _database(request, "embedded") as url:
        yield url


@pytest.fixture(params=["embedded", "system"])
def any_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same on each server there is."""
    with _database(request, request.param) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(embedded_template: str) -> Iterator[str]:
    """One for all tests of a module, which share services too."""
    with databases.copied(embedded_template) as url:
        yield url


@pytest.fixture
def empty_database_url(embedded_url: str) -> Iterator[str]:
    """A database without our schema."""
    with databases.empty(embedded_url) as url:
        yield url


@pytest.fixture
def way() -> str:
    """How results go back: the `long` way by orchestration; tests marked `both_ways` run on the `short` one, too."""
    return "long"


@pytest.fixture
async def engine(database_url: str, way: str) -> AsyncIterator[Engine]:
    """The engine without services: the test decides what happens when."""
    async with Engine(database_url, direct=way == "short") as engine:
        yield engine


@pytest.fixture
async def any_engine(any_database_url: str, way: str) -> AsyncIterator[Engine]:
    """The same on each server there is."""
    async with Engine(any_database_url, direct=way == "short") as engine:
        yield engine


@pytest.fixture
def another_engine(database_url: str) -> Callable[[], Engine]:
    """Makes further engines on the test's database."""
    return lambda: Engine(database_url)


@contextmanager
def _database(request: pytest.FixtureRequest, server: str) -> Iterator[str]:
    """Lend the kept database of a server, or make one for a test that is marked `own_database`."""
    if request.node.get_closest_marker("own_database"):
        with databases.copied(request.getfixturevalue(f"{server}_template")) as url:
            yield url
    else:
        request.getfixturevalue("warmth")
        kept: KeptDatabase = request.getfixturevalue(f"kept_{server}")
        yield kept.url
        kept.wipe()
