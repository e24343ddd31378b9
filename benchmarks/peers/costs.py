"""What a peer costs: the memory and time of its processes, and what it has its database do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: A backend that falls idle may report its last transactions ten seconds later.
_REPORTED_SECONDS = 10.5


@dataclass(frozen=True, slots=True)
class Idle:
    """What a peer does with nothing to do."""

    cpu_ms_per_s: float
    server_cpu_ms_per_s: float
    transactions_per_s: float


def memory_mb(pids: Iterable[int]) -> float:
    """Return the resident memory of processes and of all that they started."""
    resident = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _with_descendants(pids))
    return resident * _PAGE_BYTES / 1e6


async def idle(server_url: str, database: str, pids: Sequence[int], *, seconds: float) -> Idle:
    """Watch processes, their backends and their database for a while.

    Args:
        server_url: Another database of the server, so that watching is not counted.
        database: Name of the database that the peer has for itself.
        pids: The peer's processes.
        seconds: How long.
    """
    async with await psycopg.AsyncConnection.connect(server_url, autocommit=True) as connection:
        await asyncio.sleep(_REPORTED_SECONDS)
        before = await _state(connection, database, pids)
        await asyncio.sleep(seconds)
        after = await _state(connection, database, pids)
    process, server, transactions = (
        (late - early) / seconds for early, late in zip(before, after, strict=True)
    )
    return Idle(process, server, transactions)


async def _state(
    connection: psycopg.AsyncConnection[Any], database: str, pids: Sequence[int]
) -> tuple[float, float, float]:
    cursor = await connection.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", (database,)
    )
    ((transactions,),) = await cursor.fetchall()
    cursor = await connection.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", (database,))
    backends = [pid for (pid,) in await cursor.fetchall()]
    return _cpu_ms(_with_descendants(pids)), _cpu_ms(backends), float(transactions)


def _cpu_ms(pids: Iterable[int]) -> float:
    ticks = 0
    for pid in pids:
        try:
            # The name of the program, in parentheses, may hold anything.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks * 1000 / _TICKS_PER_SECOND


def _with_descendants(pids: Iterable[int]) -> list[int]:
    found: list[int] = []
    for pid in pids:
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += _with_descendants(int(child) for child in task.read_text().split())
    return found
