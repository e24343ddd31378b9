"""A real orchestration service on the test's database, a client of it, and what a worker beside it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import services
from tests.support.clients import Client
from tests.support.workshop import Workshop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where templates go."""
    (tmp_path / "templates").mkdir()
    return tmp_path / "templates"


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Client]:
    async with services.orchestration(database_url) as service, Client(service.address) as client:
        yield client
