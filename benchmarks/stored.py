"""`make bench-stored`: an empty database beside one full of finished tasks, in turns within one run."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console

from benchmarks import scenarios
from benchmarks.turns import Figures, latencies, stack, throughputs

_STORED: Final = (Path(__file__).parent / "stored.sql").read_text()
#: What a finished task has rows in.
_TABLES: Final = (
    "tasks",
    "workflow_steps",
    "workflow_step_edges",
    "task_transitions",
    "workflow_step_transitions",
    "step_results",
)
_GROUP: Final = 5_000
#: Stored tasks are so far apart: 100,000 of them took a day.
_GAP_MS: Final = 864
_AUTOVACUUM_PATIENCE_SECONDS: Final = 600

#: Tables that autovacuum, by its defaults, is about to look at, or is looking at.
_UNSETTLED: Final = """
    SELECT s.relname FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    WHERE s.schemaname = 'tasker'
      AND (s.n_mod_since_analyze > 50 + 0.1 * c.reltuples OR s.n_ins_since_vacuum > 1000 + 0.2 * c.reltuples
           OR s.n_dead_tup > 50 + 0.2 * c.reltuples)
    UNION ALL
    SELECT 'autovacuum' FROM pg_stat_activity a WHERE a.backend_type = 'autovacuum worker'
"""

Connection = psycopg.Connection[Any]


def main() -> None:
    """Measure and print."""
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    stored = int(os.environ.get("BENCH_STORED", "100000"))
    with tempfile.TemporaryDirectory(prefix="tasker-bench-") as folder:
        figures = asyncio.run(_measure(Path(folder) / "data", stored, scale))
    Console().print(figures.table())


async def _measure(data_folder: Path, stored: int, scale: float) -> Figures:
    async with stack(data_folder, "empty") as empty, stack(data_folder, "full") as full:
        await asyncio.to_thread(fill, full.database_url, stored)
        figures = Figures(("empty", f"{stored:,} stored"))
        await latencies([empty, full], figures, rounds=int(150 * scale))
        await throughputs([empty, full], figures, rounds=4, scale=scale)
    return figures


def fill(database_url: str, tasks: int) -> None:
    """Store finished tasks: copies of one that the engine has run, older than all that are there."""
    started = time.perf_counter()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_STORED.encode())
        ((model,),) = connection.execute(
            "SELECT task_uuid FROM tasker.tasks WHERE state = 'complete' ORDER BY task_uuid LIMIT 1"
        ).fetchall()
        for last in range(tasks, 0, -_GROUP):
            first = max(1, last - _GROUP + 1)
            with connection.transaction():
                _store(connection, model, first, last)
        connection.execute("CHECKPOINT")
        filled = time.perf_counter()
        settled = _await_autovacuum(connection)
    print(
        f"{tasks:,} tasks of {scenarios.STEPS} steps stored in {filled - started:.0f} s; autovacuum "
        + (f"was done {time.perf_counter() - filled:.0f} s later" if settled else "is still at work")
    )


def _store(connection: Connection, model: Any, first: int, last: int) -> None:
    for table in _TABLES:
        connection.execute(
            "SELECT pg_temp.copy_rows(%s, %s, %s, %s, %s)", (table, model, first, last, _GAP_MS)
        )
    connection.execute(
        "INSERT INTO tasker.task_identities (identity_hash, task_uuid, created_at) "
        "SELECT sha256(t.task_uuid::text::bytea), t.task_uuid, t.created_at FROM tasker.tasks t "
        "WHERE t.task_uuid BETWEEN pg_temp.earlier(%(model)s, %(last)s) AND pg_temp.earlier(%(model)s, %(first)s)",
        {"model": model, "first": first * _GAP_MS, "last": last * _GAP_MS},
    )


def _await_autovacuum(connection: Connection) -> bool:
    """Wait until autovacuum has been over what was stored: it shall not be measured. Tell whether it has."""
    until = time.monotonic() + _AUTOVACUUM_PATIENCE_SECONDS
    while time.monotonic() < until:
        if not connection.execute(_UNSETTLED).fetchall():
            return True
        time.sleep(1)
    return False


if __name__ == "__main__":
    main()
