"""PostgreSQL dies under load and comes back."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tasker.persistence.migrations import migrate
from tests.support.fleet import Fleet, violations
from tests.support.postgres import OwnServer
from tests.support.waiting import until


@pytest.fixture
async def server(embedded_url: str) -> AsyncIterator[OwnServer]:
    """A server of its own; the shared one has prepared what it needs to run."""
    folder = Path(tempfile.mkdtemp(prefix="tasker-pg-"))
    async with OwnServer(folder) as server:
        await asyncio.to_thread(migrate, server.url)
        yield server
    shutil.rmtree(folder, ignore_errors=True)


async def test_a_crashed_database_loses_no_task(server: OwnServer) -> None:
    """Claims may be forgotten, since nobody waited for the disk: their steps run again. Nothing else is."""
    tasks = 40
    async with Fleet(server.url, workers=2) as fleet, fleet.clients() as clients:
        creating = asyncio.gather(*(fleet.create(clients, n, name="wide") for n in range(tasks)))

        async def complete() -> int:
            rows = await fleet.sql("SELECT count(*) FROM tasker.workflow_steps WHERE state = 'complete'")
            return int(rows[0][0])

        for crash in (1, 2):

            async def some_are_complete(least: int = crash * 40) -> bool:
                return await complete() >= least

            await until(some_are_complete)
            await server.crash()
        created = await creating
        await fleet.ready()
        await fleet.finish(tasks=tasks)
        assert len(set(created)) == tasks
        stored = {str(row[0]) for row in await fleet.sql("SELECT task_uuid FROM tasker.tasks")}
        assert stored == set(created)  # what was acknowledged is there, and nothing twice
        assert await violations(fleet) == {}
