"""`make bench`: run all scenarios, print a table, write latest.json beside this file."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import processes, scenarios

_LATEST = Path(__file__).parent / "latest.json"


def main() -> None:
    """Run, print, write."""
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    with (
        tempfile.TemporaryDirectory(prefix="tasker-bench-") as folder,
        processes.fresh_database(Path(folder) / "data") as database_url,
    ):
        figures = asyncio.run(measure(database_url, scale=scale))
    _LATEST.write_text(json.dumps(figures, indent=2) + "\n")
    table = Table(
        "scenario",
        "figure",
        "value",
        title="Chains of four, batches of 1,000; 2 services, PostgreSQL with fsync",
    )
    for scenario, values in figures.items():
        for figure, value in values.items():
            table.add_row(scenario, figure, f"{value:,.1f}")
    Console().print(table)


async def measure(database_url: str, *, scale: float) -> dict[str, dict[str, float]]:
    """Run all scenarios with services of their own; return their figures."""
    async with processes.orchestration(database_url) as address:
        async with processes.worker(database_url):
            latency = await scenarios.chain_latency(address, tasks=int(200 * scale))
            chain = await scenarios.chain_throughput(address, database_url, tasks=int(4000 * scale))
            batch = await scenarios.batch_throughput(address, tasks=max(1, int(3 * scale)))
        async with AsyncExitStack() as workers:
            drain = await scenarios.drain_throughput(
                address,
                database_url,
                tasks=int(5000 * scale),
                run_worker=lambda: workers.enter_async_context(processes.worker(database_url)),
            )
        # What these leave behind nobody runs, so they come last.
        one_client = await scenarios.create_latency(address, tasks=int(500 * scale))
        many_clients = await scenarios.create_throughput(address, tasks=int(5000 * scale))
    return {
        "chain_latency": asdict(latency),
        "chain_throughput": asdict(chain),
        "drain_throughput": asdict(drain),
        "batch_throughput": asdict(batch),
        "create_latency": asdict(one_client),
        "create_throughput": asdict(many_clients),
    }


if __name__ == "__main__":
    main()
