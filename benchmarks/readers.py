"""`make bench-readers`: what transactions that keep an old snapshot cost, in turns beside a database without any.

PostgreSQL keeps every dead row that an old snapshot may still see. The longer it is kept under load, the more of them
lie in the way.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psycopg
from rich.console import Console

from benchmarks.turns import Figures, latencies, stack, turns

_READERS: Final = 4


def main() -> None:
    """Measure and print."""
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    with tempfile.TemporaryDirectory(prefix="tasker-bench-") as folder:
        figures = asyncio.run(_measure(Path(folder) / "data", seconds=300 * scale))
    Console().print(figures.table())


async def _measure(data_folder: Path, *, seconds: float) -> Figures:
    """Load both in turns; figures count from when the second one has worked under the snapshots for so long."""
    async with stack(data_folder, "free") as free, stack(data_folder, "held") as held:
        stacks = (free, held)
        figures = Figures(("no reader", f"{_READERS} old readers"))
        with _old_snapshots(held.database_url):
            worked = 0.0
            while worked < seconds:
                await free.chains(2000)
                started = time.perf_counter()
                await held.chains(2000)
                worked += time.perf_counter() - started
            print(f"snapshots were kept during {worked:.0f} s of work")
            for number in range(6):
                for which in turns(number):
                    figures.add(
                        "chains, 32 creates in flight: steps/s", which, await stacks[which].chains(2000)
                    )
            await latencies(stacks, figures, rounds=60)
    return figures


@contextmanager
def _old_snapshots(database_url: str) -> Iterator[None]:
    with ExitStack() as readers:
        for _ in range(_READERS):
            reader = readers.enter_context(psycopg.connect(database_url))
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT count(*) FROM tasker.tasks")
        yield


if __name__ == "__main__":
    main()
