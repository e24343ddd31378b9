"""`make bench-pairs BEFORE=path`: this checkout beside another one, in turns within one run, on one server.

Figures of a machine drift from hour to hour by more than most changes are worth; the ratio of two that took turns does
not. The other checkout needs a `.venv` of its own (`make setup`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import processes, scenarios
from tasker.v1 import tasks_pb2_grpc

_NAMES: Final = ("before", "now")
_IDLE_SECONDS: Final = 20.0
#: After the last stream ended, transactions go on hinting for a minute.
_CALM_SECONDS: Final = 65.0


@dataclass(frozen=True, slots=True)
class Stack:
    """Both services of a checkout, on a database of their own."""

    database_url: str
    address: str
    stub: tasks_pb2_grpc.TaskServiceAsyncStub
    worker: subprocess.Popen[bytes]

    async def drain(self, tasks: int) -> float:
        """Return the steps a second of a backlog that was created while the worker stood still."""
        self.worker.send_signal(signal.SIGSTOP)
        throughput = await scenarios.drain_throughput(
            self.address, self.database_url, tasks=tasks, run_worker=self._go_on
        )
        return throughput.steps_per_s

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
    """What was measured of both, by figure."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[list[float], list[float]]] = {}

    def add(self, figure: str, which: int, value: float) -> None:
        """Add a value of the stack before (0) or now (1)."""
        self._values.setdefault(figure, ([], []))[which].append(value)

    def table(self) -> Table:
        """Return the medians and their ratios."""
        table = Table("figure", *_NAMES, "ratio", title="Medians of both, taken in turns")
        for figure, values in self._values.items():
            before, now = map(statistics.median, values)
            table.add_row(figure, f"{before:,.2f}", f"{now:,.2f}", f"{now / before:.2f}")
        return table


def main() -> None:
    """Run and print."""
    if len(sys.argv) != 2:
        sys.exit("give the other checkout: make bench-pairs BEFORE=path")
    before = Path(sys.argv[1]).resolve() / ".venv" / "bin" / "python"
    if not before.exists():
        sys.exit(f"{before} is not there: run `make setup` in that checkout")
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    with tempfile.TemporaryDirectory(prefix="tasker-bench-") as folder:
        figures = asyncio.run(_measure((before, Path(sys.executable)), Path(folder) / "data", scale))
    Console().print(figures.table())


async def _measure(pythons: tuple[Path, Path], data_folder: Path, scale: float) -> Figures:
    async with AsyncExitStack() as running:
        stacks = [
            await running.enter_async_context(_stack(python, data_folder, name))
            for python, name in zip(pythons, _NAMES, strict=True)
        ]
        figures = Figures()
        await _latencies(stacks, figures, rounds=int(150 * scale))
        await _throughputs(stacks, figures, rounds=4, scale=scale)
        await _idle(stacks, figures)
    return figures


@asynccontextmanager
async def _stack(python: Path, data_folder: Path, name: str) -> AsyncIterator[Stack]:
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


async def _latencies(stacks: list[Stack], figures: Figures, *, rounds: int) -> None:
    for number in range(rounds):
        for which in _turns(number):
            took = await scenarios.run_one(stacks[which].stub, "chain", number)
            figures.add("chain, one at a time: P50, ms", which, took.until_done_ms)
            figures.add("CreateTask in it: P50, ms", which, took.create_ms)


async def _throughputs(stacks: list[Stack], figures: Figures, *, rounds: int, scale: float) -> None:
    async def chains(stack: Stack) -> float:
        tasks = int(2000 * scale)
        return (await scenarios.chain_throughput(stack.address, stack.database_url, tasks=tasks)).steps_per_s

    async def batch(stack: Stack) -> float:
        return (await scenarios.batch_throughput(stack.address, tasks=1)).steps_per_s

    async def fan_out(stack: Stack) -> float:
        return statistics.median(
            [(await scenarios.run_one(stack.stub, "fan")).until_done_ms for _ in range(5)]
        )

    measured: dict[str, Callable[[Stack], Awaitable[float]]] = {
        "chains, 32 creates in flight: steps/s": chains,
        "a backlog drained: steps/s": lambda stack: stack.drain(int(2500 * scale)),
        "a batch of 1,000: instances/s": batch,
        "1 -> 100 -> 1: ms": fan_out,
    }
    for figure, measure in measured.items():
        for number in range(rounds):
            for which in _turns(number):
                figures.add(figure, which, await measure(stacks[which]))


async def _idle(stacks: list[Stack], figures: Figures) -> None:
    await asyncio.sleep(_CALM_SECONDS)
    before = [await stack.transactions() for stack in stacks]
    await asyncio.sleep(_IDLE_SECONDS)
    for which, stack in enumerate(stacks):
        ended = await stack.transactions() - before[which] - 1  # its own question
        figures.add("with nothing to do: transactions/s", which, ended / _IDLE_SECONDS)


def _turns(number: int) -> tuple[int, int]:
    """Return who goes first: each comes first every other time."""
    return (0, 1) if number % 2 else (1, 0)


if __name__ == "__main__":
    main()
