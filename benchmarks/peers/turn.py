"""A peer's turn in a round: all scenarios, on a database of its own, and all its processes ended behind it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks.peers import costs, program
from benchmarks.peers.errors import PeerFailedError
from benchmarks.peers.program import Program
from benchmarks.peers.scale import Scale

STEPS: Final = 4
_DRAIN_SECONDS: Final = 300


class Working(Protocol):
    """A worker that runs."""

    @property
    def pid(self) -> int: ...

    async def span(self) -> Mapping[str, Any]:
        """Return when its first step began, its last one ended (seconds), and how many ended: first, last, steps."""


class Contestant(Protocol):
    """A peer that is installed and has its database."""

    @property
    def works_in_creator(self) -> bool:
        """See `Peer`."""

    @property
    def database(self) -> str:
        """Name of its database."""

    async def set_up(self) -> None:
        """Make the schema."""

    def serving(self) -> AbstractAsyncContextManager[list[int]]:
        """Run what is neither worker nor creator; yield the process ids."""

    def working(self) -> AbstractAsyncContextManager[Working]:
        """Run a worker."""

    def creating(self) -> AbstractAsyncContextManager[Program]:
        """Run a program that creates chains."""


async def take(contestant: Contestant, scale: Scale, server_url: str, *, idle: bool) -> dict[str, float]:
    """Have a peer take its turn; return its figures.

    Args:
        contestant: The peer.
        scale: How much of each scenario.
        server_url: A database of the server that is not the peer's.
        idle: Whether to measure what it costs with nothing to do, too.
    """
    async with contestant.serving() as pids:
        figures = await _together(contestant, scale)
        async with contestant.creating() as creator:
            await creator.ask("backlog", chains=scale.chains_in_backlog, width=scale.width)
        async with contestant.working() as worker:
            steps = STEPS * scale.chains_in_backlog
            figures["drain_steps_per_s"] = steps / await _drained(worker, steps)
            figures["memory_mb"] = costs.memory_mb([*pids, worker.pid])
            if idle:
                figures |= await _idle(contestant, scale, server_url, [*pids, worker.pid])
    return figures


async def _together(contestant: Contestant, scale: Scale) -> dict[str, float]:
    """Take the scenarios in which chains are created and run at once."""
    async with _worker_unless_needless(contestant), contestant.creating() as creator:
        await creator.ask("one_by_one", chains=scale.warm_up)
        alone = await creator.ask("one_by_one", chains=scale.chains_one_by_one)
        together = await creator.ask("in_flight", chains=scale.chains_in_flight, width=scale.width)
        fans = await creator.ask("fan", times=scale.fans)
    return {
        "chain_p50_ms": statistics.median(alone["chain_ms"]),
        "chain_p95_ms": statistics.quantiles(alone["chain_ms"], n=20, method="inclusive")[-1],
        "create_p50_ms": statistics.median(alone["create_ms"]),
        "in_flight_steps_per_s": STEPS * scale.chains_in_flight / together["seconds"],
        "fan_ms": statistics.median(fans["fan_ms"]),
    }


@asynccontextmanager
async def _worker_unless_needless(contestant: Contestant) -> AsyncIterator[None]:
    if contestant.works_in_creator:
        yield
        return
    async with contestant.working():
        yield


async def _drained(worker: Working, steps: int) -> float:
    """Return the seconds from the first step to the last of a backlog."""
    until = time.monotonic() + _DRAIN_SECONDS
    while (span := await worker.span())["steps"] < steps:
        if time.monotonic() > until:
            raise PeerFailedError(f"{span['steps']} of {steps} steps done after {_DRAIN_SECONDS} s", "")
        await asyncio.sleep(0.1)
    return float(span["last"] - span["first"])


async def _idle(contestant: Contestant, scale: Scale, server_url: str, pids: list[int]) -> dict[str, float]:
    idle = await costs.idle(server_url, contestant.database, pids, seconds=scale.idle_seconds)
    return {
        "idle_cpu_ms_per_s": idle.cpu_ms_per_s,
        "idle_server_cpu_ms_per_s": idle.server_cpu_ms_per_s,
        "idle_transactions_per_s": idle.transactions_per_s,
    }


@dataclass(frozen=True, slots=True)
class _ProgramWorking:
    program: Program

    @property
    def pid(self) -> int:
        return self.program.pid

    async def span(self) -> Mapping[str, Any]:
        return await self.program.ask("span")


@dataclass(frozen=True, slots=True)
class Programs:
    """A peer whose worker is a program that speaks, as its creator does.

    Attributes:
        command: What runs its program.
        url: URL of its database.
        database: Name of its database.
        log: Where its programs write what they have to say.
        works_in_creator: See `Peer`.
    """

    command: list[str]
    url: str
    database: str
    log: Path
    works_in_creator: bool

    async def set_up(self) -> None:
        """Make the schema."""
        await program.run([*self.command, "set_up", self.url], self.log)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[list[int]]:
        """Run nothing."""
        yield []

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Working]:
        """Run a worker."""
        async with program.running([*self.command, "worker", self.url], self.log) as worker:
            yield _ProgramWorking(worker)

    def creating(self) -> AbstractAsyncContextManager[Program]:
        """Run a program that creates chains."""
        return program.running([*self.command, "creator", self.url], self.log)
