"""A PostgreSQL server that a test may crash."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tasker.persistence.embedded import SERVER_USER
from tests.support.servers import postgres_programs

_BECOME = """
import os, pwd, sys
user = pwd.getpwnam(sys.argv[1])
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
os.execv(sys.argv[2], sys.argv[2:])
"""
_OPTIONS = "-c fsync=off -c listen_addresses= -c max_connections=60"


class OwnServer:
    """The embedded PostgreSQL on a folder of the test's own.

    Attributes:
        url: Of its database `postgres`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        # PostgreSQL refuses to run as root; the embedded server's package has made a user for it.
        self._user = SERVER_USER if os.geteuid() == 0 else None
        self.url = f"postgresql://postgres:@/postgres?host={folder}"

    async def __aenter__(self) -> Self:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        await self._run(
            "initdb", "-D", self._data, "--auth=trust", "--encoding=utf8", "-U", "postgres", "--no-sync"
        )
        await self._control("start")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._control("stop", "-m", "immediate")

    async def crash(self) -> None:
        """End it as a crash would, and start it again: what was not written is lost."""
        await self._control("restart", "-m", "immediate")

    async def demote(self) -> None:
        """Make a standby of it that waits for a primary which never comes: it answers, and takes no writes."""
        await self._control("stop", "-m", "fast")
        (self._data / "standby.signal").touch()
        await self._control("start")

    async def promote(self) -> None:
        """Make a primary of it."""
        await self._control("promote")

    async def _control(self, *what: str) -> None:
        options = ["-o", f"{_OPTIONS} -k {self._folder}"] if what[0] in ("start", "restart") else []
        await self._run("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log", *options, *what)

    async def _run(self, program: str, *arguments: object) -> None:
        command = [str(postgres_programs() / program), *map(str, arguments)]
        if self._user is not None:
            # Not the `user` of asyncio: that forks, and a fork beside running gRPC calls may crash.
            command = [sys.executable, "-c", _BECOME, self._user, *command]
        # To a file, not a pipe: the server inherits it and would keep a pipe open.
        with (self._folder / "commands").open("w+") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=output, stderr=output, cwd=self._folder
            )
            code = await process.wait()
            output.seek(0)
            assert code == 0, f"{program} {arguments} ended with {code}: {output.read()} {self._log()}"

    def _log(self) -> str:
        log = self._folder / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""
