"""A program of a peer: a process that answers each line of JSON with one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.peers.errors import PeerFailedError

_READY_SECONDS: Final = 60
_STOP_SECONDS: Final = 20
_LINE_BYTES: Final = 1 << 24


class Program:
    """A running program, to be spoken to."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, do: str, *, timeout: float = 300, **arguments: Any) -> dict[str, Any]:
        """Have it do something; return its answer.

        Raises:
            PeerFailedError: It ended, or took longer than the timeout, in seconds.
        """
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # that it has ended shows below
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            await self._process.stdin.drain()
        return await self._answer(do, timeout)

    async def ready(self) -> None:
        """Return when it says that it is ready."""
        await self._answer("start", _READY_SECONDS)

    async def stop(self) -> None:
        """End its input, by which it stops; kill it if it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            # Its session is its own, so this hits what it started and nothing else.
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def _answer(self, do: str, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise PeerFailedError(f"'{do}' took longer than {timeout:.0f} s", self._last_words()) from None
        if not line:
            raise PeerFailedError(f"it ended at '{do}'", self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")


@asynccontextmanager
async def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """Run a program; yield it when it is ready, stop it in the end.

    Args:
        command: The program with its arguments.
        log: File that takes its standard error.
        environment: What is added to the environment.
    """
    with log.open("ab") as errors:
        program = Program(await _start(command, errors, environment), log)
    try:
        await program.ready()
        yield program
    finally:
        await program.stop()


async def run(command: Sequence[str], log: Path) -> None:
    """Run a command to its end.

    Raises:
        PeerFailedError: It failed.
    """
    with log.open("ab") as errors:
        process = await _start(command, errors, None)
    program = Program(process, log)
    output, _ = await process.communicate()
    if process.returncode:
        raise PeerFailedError(
            f"{Path(command[0]).name} failed", program._last_words() or output.decode(errors="replace")[-200:]
        )


async def _start(
    command: Sequence[str], errors: IO[bytes], environment: Mapping[str, str] | None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        env=os.environ | dict(environment or {}),
        limit=_LINE_BYTES,
        start_new_session=True,
    )
