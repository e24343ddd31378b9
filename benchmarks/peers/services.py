"""Tasker as one of the peers: its two services, each a process of its own, and its client as the creator."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg

from benchmarks import processes
from benchmarks.peers import program
from benchmarks.peers.installing import FOLDER
from benchmarks.peers.program import Program
from benchmarks.peers.turn import STEPS, Working
from tasker.domain.uuids import uuid7
from tasker.persistence.migrations import migrate

_WORKFLOWS: Final = FOLDER / "workflows"
#: From the first claim to the last completion, of the tasks created after a moment that had none done.
_SPAN: Final = """
    SELECT coalesce(extract(epoch FROM min(s.claimed_at)), 0)::float8,
           coalesce(extract(epoch FROM max(t.completed_at)), 0)::float8,
           count(t.completed_at)
    FROM tasker.tasks t
    CROSS JOIN LATERAL (
        SELECT min(s.created_at) AS claimed_at FROM tasker.workflow_step_transitions s
        WHERE s.task_uuid = t.task_uuid AND s.to_state = 'in_progress') s
    WHERE t.task_uuid > %s
"""
_DONE: Final = "SELECT count(*) FROM tasker.task_transitions WHERE task_uuid > %s AND to_state = 'complete'"


@dataclass(frozen=True, slots=True)
class _Working:
    pid: int
    url: str
    since: UUID
    expected: int

    async def span(self) -> Mapping[str, Any]:
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            # By key and cheap, since this is asked while the worker works; the rest only in the end.
            ((done,),) = await (await connection.execute(_DONE, (self.since,))).fetchall()
            if done < self.expected:
                return {"first": 0.0, "last": 0.0, "steps": done * STEPS}
            ((first, last, done),) = await (await connection.execute(_SPAN, (self.since,))).fetchall()
        return {"first": first, "last": last, "steps": done * STEPS}


@dataclass(slots=True)
class Services:
    """Tasker, with its default settings.

    Attributes:
        command: What runs the program that creates.
        url: URL of its database.
        database: Name of its database.
        log: Where its processes write what they have to say.
        backlog: Tasks that a worker finds when it is started to be asked for its span.
    """

    command: list[str]
    url: str
    database: str
    log: Path
    backlog: int
    works_in_creator: bool = False
    _address: str = field(default="", init=False)
    _since: UUID = field(default=UUID(int=0), init=False)

    async def set_up(self) -> None:
        """Make the schema."""
        await asyncio.to_thread(migrate, self.url)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[list[int]]:
        """Run an orchestrator."""
        self._address = processes.free_address()
        async with self._service("orchestration", self._address) as pid:
            yield [pid]

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Working]:
        """Run a worker."""
        async with self._service("worker", processes.free_address()) as pid:
            yield _Working(pid, self.url, self._since, self.backlog)

    def creating(self) -> AbstractAsyncContextManager[Program]:
        """Run a program that creates chains."""
        # What was created before is done, and does not belong to the backlog that this program may create.
        self._since = UUID(int=uuid7().int >> 80 << 80)
        return program.running([*self.command, "creator", self._address], self.log)

    @asynccontextmanager
    async def _service(self, name: str, address: str) -> AsyncIterator[int]:
        environment = os.environ | {
            "DATABASE_URL": self.url,
            "TASKER_LOG_LEVEL": "warning",
            f"TASKER_{name.upper()}_GRPC_BIND_ADDRESS": address,
            "TASKER_TEMPLATE_PATH": str(_WORKFLOWS),
            "PYTHON_HANDLER_PATH": str(_WORKFLOWS / "handlers.py"),
        }
        with self.log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tasker.ctl.main", name, env=environment, stdout=errors, stderr=errors
            )
        try:
            await processes.ready(address)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 30)
