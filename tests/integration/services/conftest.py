"""A real orchestration service on the test's database, and a client of it; the worker is real or the test itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tasker.orchestration.service import OrchestrationService
from tests.support import services
from tests.support.clients import Client
from tests.support.engine import chain, diamond


@pytest.fixture
async def client(orchestration: OrchestrationService) -> AsyncIterator[Client]:
    async with Client(orchestration.address) as client:
        yield client


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """`workflow`, a chain of three, and `diamond`."""
    return services.write_templates(tmp_path / "templates", chain(3), diamond() | {"name": "diamond"})
