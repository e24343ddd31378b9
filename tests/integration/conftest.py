"""Real services on the test's database, a client of them, and a folder to start a command in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tasker.client import TaskerClient
from tasker.orchestration.service import OrchestrationService
from tasker.worker.service import WorkerService
from tests.support import services
from tests.support.engine import chain
from tests.support.workshop import Workshop


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
async def orchestration(database_url: str) -> AsyncIterator[OrchestrationService]:
    async with services.orchestration(database_url) as service:
        yield service


@pytest.fixture
async def worker(
    database_url: str,
    orchestration: OrchestrationService,
    workshop: Workshop,
    documents: list[Mapping[str, Any]],
    tmp_path: Path,
) -> AsyncIterator[WorkerService]:
    """A worker with the templates that the module's fixture `documents` names."""
    folder = services.write_templates(tmp_path / "templates", *documents)
    async with services.worker(database_url, workshop.registry, folder) as service:
        yield service


@pytest.fixture
async def client(orchestration: OrchestrationService, worker: WorkerService) -> AsyncIterator[TaskerClient]:
    async with TaskerClient(orchestration.address) as client:
        yield client


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a template and a module of handlers, both of them good."""
    (tmp_path / "config").mkdir()
    services.write_templates(tmp_path / "config" / "tasks", chain(2))
    (tmp_path / "shop.py").write_text(
        "from tasker.worker import step_handler\n\n\n"
        "@step_handler('work')\nasync def work() -> dict[str, str]:\n    return {'done': 'yes'}\n"
    )
    return tmp_path
