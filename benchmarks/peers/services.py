"""Tasker as one of the peers: its two services, each a process of its own, and its client as the creator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from benchmarks import processes, scenarios
from benchmarks.peers import program
from benchmarks.peers.installing import FOLDER
from benchmarks.peers.program import Program
from benchmarks.peers.turn import STEPS, Working
from tasker.persistence.migrations import migrate

_WORKFLOWS: Final = FOLDER / "workflows"


@dataclass(frozen=True, slots=True)
class _Working:
    pid: int
    url: str
    since: UUID
    expected: int

    async def span(self) -> Mapping[str, Any]:
        # Cheap, since this is asked while the worker works; the rest only in the end.
        done = await scenarios.completed(self.url, self.since)
        first, last = await scenarios.span(self.url, self.since) if done >= self.expected else (0.0, 0.0)
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
        async with self._service("orchestration") as service:
            self._address = service.address
            yield [service.process.pid]

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Working]:
        """Run a worker."""
        async with self._service("worker") as service:
            yield _Working(service.process.pid, self.url, self._since, self.backlog)

    def creating(self) -> AbstractAsyncContextManager[Program]:
        """Run a program that creates chains."""
        # What was created before is done, and does not belong to the backlog that this program may create.
        self._since = scenarios.moment()
        return program.running([*self.command, "creator", self._address], self.log)

    def _service(self, name: str) -> AbstractAsyncContextManager[processes.Service]:
        return processes.service(
            name, self.url, templates=_WORKFLOWS, handlers=_WORKFLOWS / "handlers.py", log=self.log
        )
