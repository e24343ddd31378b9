"""The command `tasker` as a process: what it says, how it ends."""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self

from tests.support.nursery import Nursery

#: The installed command.
TASKER = str(Path(sys.executable).with_name("tasker"))
#: Longer than any of it takes.
SECONDS = 60.0


def environment(**settings: str | Path) -> dict[str, str]:
    """Return an environment with these settings and no other one of ours."""
    ours = ("TASKER_", "DATABASE_URL", "PYTHON_HANDLER_PATH")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    anywhere = {
        "TASKER_ORCHESTRATION_GRPC_BIND_ADDRESS": "127.0.0.1:0",
        "TASKER_WORKER_GRPC_BIND_ADDRESS": "127.0.0.1:0",
        "TASKER_LOG_FORMAT": "json",
    }
    return inherited | anywhere | {name: str(value) for name, value in settings.items()}


_LOG_LINE = re.compile(r"\{|[IWE]\d{4} \d\d:\d\d:")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        """What it printed as JSON, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def refusal(self) -> Any:
        """The error it printed as JSON."""
        (line,) = self.err.splitlines()
        return json.loads(line)

    @property
    def error(self) -> str:
        """The one line it complained with; log lines, ours and those of gRPC's core, aside."""
        (line,) = [line for line in self.err.splitlines() if not _LOG_LINE.match(line)]
        return line


class Process(Protocol):
    """A process, as asyncio has it."""

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """What it prints."""

    @property
    def stderr(self) -> asyncio.StreamReader | None:
        """What it says on the side."""

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""

    def send_signal(self, signal: int) -> None:
        """Send a signal."""

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait for the end, and return the rest of what it said."""


class Forked:
    """A command that the nursery has forked."""

    def __init__(
        self, pid: int, end: asyncio.StreamReader, streams: tuple[asyncio.StreamReader, ...] = ()
    ) -> None:
        self.stdout: asyncio.StreamReader | None
        self.stderr: asyncio.StreamReader | None
        self.stdout, self.stderr = streams or (None, None)
        self.returncode: int | None = None
        self.pid = pid
        self._end = asyncio.create_task(self._wait(end))

    @classmethod
    async def start(cls, *arguments: str, cwd: Path, environment: dict[str, str]) -> Self:
        """Begin `tasker` in a folder."""
        out, theirs_out = os.pipe()
        err, theirs_err = os.pipe()
        try:
            pid, end = await _forked(arguments, cwd, environment, theirs_out, theirs_err)
        finally:
            os.close(theirs_out)
            os.close(theirs_err)
        return cls(pid, end, (await _reader(out), await _reader(err)))

    @classmethod
    async def start_logged(cls, *arguments: str, log: Path, environment: dict[str, str]) -> Self:
        """Begin `tasker` in the folder of its log, which all that it says is added to."""
        with log.open("ab") as file:
            return cls(*await _forked(arguments, log.parent, environment, file.fileno(), file.fileno()))

    def send_signal(self, signal: int) -> None:
        """Send a signal."""
        if self.returncode is None:
            os.kill(self.pid, signal)

    async def wait(self) -> int:
        """Wait for the end."""
        await asyncio.shield(self._end)
        assert self.returncode is not None
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait for the end, and return the rest of what it said."""
        assert self.stdout is not None
        assert self.stderr is not None
        out, err, _ = await asyncio.gather(self.stdout.read(), self.stderr.read(), self.wait())
        return out, err

    async def _wait(self, end: asyncio.StreamReader) -> None:
        self.returncode = int(await end.readline())


async def _forked(
    arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], out: int, err: int
) -> tuple[int, asyncio.StreamReader]:
    """Begin `tasker`; return its process id and what tells of its end."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        told = _nursery().fork(
            [TASKER, *arguments], cwd=str(cwd), environment=environment, streams=(nothing, out, err)
        )
    finally:
        os.close(nothing)
    end = await _reader(told)
    return int(await end.readline()), end


@cache
def _nursery() -> Nursery:
    nursery = Nursery()
    atexit.register(nursery.close)
    return nursery


async def _reader(descriptor: int) -> asyncio.StreamReader:
    """Return what reads a pipe to its end, and then closes it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb"))
    return reader


class Command:
    """A command that runs."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def says(self, pattern: str, *, on: str = "out") -> str:
        """Wait for a line that matches, and return the first group of the match."""
        stream = self._process.stdout if on == "out" else self._process.stderr
        assert stream is not None
        async with asyncio.timeout(SECONDS):
            while line := (await stream.readline()).decode():
                self.lines.append(line)
                if found := re.search(pattern, line):
                    return found[1] if found.groups() else found[0]
            other = self._process.stderr if on == "out" else self._process.stdout
            assert other is not None
            rest = (await other.read()).decode()
        raise AssertionError(
            f"it ended without saying {pattern!r}: {self.lines}, and on the other side {rest!r}"
        )

    async def signalled(self, number: signal.Signals) -> Ended:
        """Send a signal and wait for the end."""
        self._process.send_signal(number)
        return await self.ended()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> Ended:
        async with asyncio.timeout(SECONDS):
            out, err = await self._process.communicate()
        assert self._process.returncode is not None
        return Ended(self._process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def running(*arguments: str, cwd: Path, **settings: str | Path) -> AsyncIterator[Command]:
    """Run `tasker` in a folder."""
    process = await Forked.start(*arguments, cwd=cwd, environment=environment(**settings))
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)  # so that it stops the server it may have started
            try:
                await asyncio.wait_for(process.communicate(), SECONDS)
            except TimeoutError:
                process.send_signal(signal.SIGKILL)
                await process.communicate()
                raise


async def tasker(*arguments: str, cwd: Path, **settings: str | Path) -> Ended:
    """Run `tasker` in a folder to its end."""
    async with running(*arguments, cwd=cwd, **settings) as command:
        return await command.ended()


class Screen:
    """A terminal that a command runs on, 100 columns by 30 lines."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self._process = process
        self._terminal = terminal
        self._said = b""
        self._heard = asyncio.Event()
        self._left = asyncio.Event()
        asyncio.get_running_loop().add_reader(terminal, self._hear)

    @property
    def text(self) -> str:
        """All that was shown so far, every frame of it, without the control sequences."""
        return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", self._said.decode(errors="ignore"))

    async def shows(self, pattern: str) -> None:
        """Wait until something that matches was shown."""
        async with asyncio.timeout(SECONDS):
            while not re.search(pattern, self.text):
                assert not self._left.is_set(), f"it ended without showing {pattern!r}: {self.text}"
                self._heard.clear()
                await self._heard.wait()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> Ended:
        """Wait for the end; what the command said on either stream is `out`."""
        async with asyncio.timeout(SECONDS):
            await self._left.wait()
            return Ended(await self._process.wait(), self._said.decode(), "")

    def _hear(self) -> None:
        try:
            part = os.read(self._terminal, 65536)
        except OSError:  # which is how Linux says that the last program has left the terminal
            part = b""
        self._said += part
        self._heard.set()
        if not part:
            self._left.set()
            asyncio.get_running_loop().remove_reader(self._terminal)


@asynccontextmanager
async def on_terminal(*arguments: str, cwd: Path, **settings: str | Path) -> AsyncIterator[Screen]:
    """Run `tasker` in a folder, on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = await asyncio.create_subprocess_exec(
        TASKER,
        *arguments,
        cwd=cwd,
        # The size twice: a test runner may have set these variables, and they come first.
        env=environment(TERM="xterm-256color", LINES="30", COLUMNS="100", **settings),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Screen(process, ours)
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
