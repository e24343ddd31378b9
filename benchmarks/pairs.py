"""`make bench-pairs BEFORE=path`: this checkout beside another one, in turns within one run, on one server.

The other checkout needs a `.venv` of its own (`make setup`).
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.turns import Figures, Stack, latencies, stack, throughputs

_NAMES: Final = ("before", "now")
_IDLE_SECONDS: Final = 20.0
#: After the last stream ended, transactions go on hinting for a minute.
_CALM_SECONDS: Final = 65.0


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
            await running.enter_async_context(stack(data_folder, name, python=python))
            for python, name in zip(pythons, _NAMES, strict=True)
        ]
        figures = Figures(_NAMES)
        await latencies(stacks, figures, rounds=int(150 * scale))
        await throughputs(stacks, figures, rounds=4, scale=scale)
        await _idle(stacks, figures)
    return figures


async def _idle(stacks: Sequence[Stack], figures: Figures) -> None:
    await asyncio.sleep(_CALM_SECONDS)
    before = [await each.transactions() for each in stacks]
    await asyncio.sleep(_IDLE_SECONDS)
    for which, each in enumerate(stacks):
        ended = await each.transactions() - before[which] - 1  # its own question
        figures.add("with nothing to do: transactions/s", which, ended / _IDLE_SECONDS)


if __name__ == "__main__":
    main()
