"""Two stacks that take turns within one run, on one server: what `bench-pairs`, `-stored` and `-readers` stand on.

Figures of a machine drift from hour to hour by more than most changes are worth; the ratio of two that took turns does
not.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import psycopg
from rich.table import Table

from benchmarks import processes, scenarios
from tasker.v1 import tasks_pb2_grpc

_THIS: Final = Path(sys.executable)


@dataclass(frozen=True, slots=True)
class Stack:
    """Both services of a checkout, on a database of their own."""

    database_url: str
    address: str
    stub: tasks_pb2_grpc.TaskServiceAsyncStub
    worker: subprocess.Popen[bytes]

    async def chains(self, tasks: int) -> float:
        """Return the steps a second of chains that are created with 32 calls in flight."""
        return (await scenarios.chain_throughput(self.address, self.database_url, tasks=tasks)).steps_per_s

    async def drain(self, tasks: int) -> float:
        """Return the steps a second of a backlog that was created while the worker stood still."""
        self.worker.send_signal(signal.SIGSTOP)
        throughput = await scenarios.drain_throughput(
            self.address, self.database_url, tasks=tasks, run_worker=self._go_on
        )
        return throughput.steps_per_s

    async def batch(self) -> float:
        """Return the instances a second of a batch of 1,000."""
        return (await scenarios.batch_throughput(self.address, tasks=1)).steps_per_s

    async def fan_out(self) -> float:
        """Return the milliseconds of 1 -> 100 -> 1, median of five."""
        return statistics.median(
            [(await scenarios.run_one(self.stub, "fan")).until_done_ms for _ in range(5)]
        )

    async def _go_on(self) -> None:
        self.worker.send_signal(signal.SIGCONT)

    async def transactions(self) -> int:
        """Return how many transactions its database has ended so far."""
        async with await psycopg.AsyncConnection.connect(self.database_url, autocommit=True) as connection:
            cursor = await connection.execute(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
            )
            ((ended,),) = await cursor.fetchall()
        return int(ended)


class Figures:
    """What was measured of both, by figure.

    Args:
        names: Of the stacks; ratios are of the second to the first.
    """

    def __init__(self, names: tuple[str, str]) -> None:
        self._names = names
        self._values: dict[str, tuple[list[float], list[float]]] = {}

    def add(self, figure: str, which: int, value: float) -> None:
        """Add a value of the first (0) or the second stack (1)."""
        self._values.setdefault(figure, ([], []))[which].append(value)

    def table(self) -> Table:
        """Return the medians and their ratios."""
        table = Table("figure", *self._names, "ratio", title="Medians of both, taken in turns")
        for figure, values in self._values.items():
            first, second = map(statistics.median, values)
            table.add_row(figure, f"{first:,.2f}", f"{second:,.2f}", f"{second / first:.2f}")
        return table


@asynccontextmanager
async def stack(data_folder: Path, name: str, *, python: Path = _THIS) -> AsyncIterator[Stack]:
    """Run both services on a fresh database and warm them.

    Args:
        data_folder: Of the server, which stacks on the same folder share.
        name: Of the database.
        python: Of the checkout that the services are of.
    """
    with processes.fresh_database(data_folder, name=name, python=python) as url:
        async with (
            processes.orchestration(url, python=python) as address,
            processes.worker(url, python=python) as worker,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = tasks_pb2_grpc.TaskServiceStub(channel)
            for _ in range(20):  # warm caches and plans
                await scenarios.run_one(stub, "chain")
            yield Stack(url, address, stub, worker)


async def latencies(stacks: Sequence[Stack], figures: Figures, *, rounds: int) -> None:
    """Measure chains that are alone, one each in turn."""
    for number in range(rounds):
        for which in turns(number):
            took = await scenarios.run_one(stacks[which].stub, "chain", number)
            figures.add("chain, one at a time: P50, ms", which, took.until_done_ms)
            figures.add("CreateTask in it: P50, ms", which, took.create_ms)


async def throughputs(stacks: Sequence[Stack], figures: Figures, *, rounds: int, scale: float) -> None:
    """Measure how much gets through, and a fan-out."""
    measured: dict[str, Callable[[Stack], Awaitable[float]]] = {
        "chains, 32 creates in flight: steps/s": lambda stack: stack.chains(int(2000 * scale)),
        "a backlog drained: steps/s": lambda stack: stack.drain(int(2500 * scale)),
        "a batch of 1,000: instances/s": Stack.batch,
        "1 -> 100 -> 1: ms": Stack.fan_out,
    }
    for figure, measure in measured.items():
        for number in range(rounds):
            for which in turns(number):
                figures.add(figure, which, await measure(stacks[which]))


def turns(number: int) -> tuple[int, int]:
    """Return who goes first: each comes first every other time."""
    return (0, 1) if number % 2 else (1, 0)
