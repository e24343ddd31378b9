"""The services under test, on free ports, inside the test's process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from tasker.config.settings import OrchestrationSettings, WorkerSettings
from tasker.orchestration.service import OrchestrationService
from tasker.worker import HandlerRegistry
from tasker.worker.service import WorkerService


@asynccontextmanager
async def orchestration(database_url: str, **settings: object) -> AsyncIterator[OrchestrationService]:
    """Run an orchestration service on a free port."""
    given: dict[str, object] = {"bind_address": "127.0.0.1:0", "shutdown_timeout_seconds": 5}
    service = OrchestrationService(OrchestrationSettings.load(database_url=database_url, **given | settings))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


@asynccontextmanager
async def worker(
    database_url: str, registry: HandlerRegistry, templates: Path, **settings: object
) -> AsyncIterator[WorkerService]:
    """Run a worker service on a free port, with the templates of a folder."""
    service = new_worker(database_url, registry, templates, **settings)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def new_worker(
    database_url: str, registry: HandlerRegistry, templates: Path, **settings: object
) -> WorkerService:
    """Return a worker service that is not started yet; the test starts and stops it."""
    given: dict[str, object] = {"bind_address": "127.0.0.1:0", "shutdown_timeout_seconds": 5}
    given |= {"database_url": database_url, "template_path": templates}
    return WorkerService(WorkerSettings.load(**given | settings), registry)


def write_templates(folder: Path, *documents: Mapping[str, Any]) -> Path:
    """Write template files; return the folder."""
    folder.mkdir(exist_ok=True)
    for number, document in enumerate(documents):
        (folder / f"template_{number}.yaml").write_text(yaml.safe_dump(dict(document)))
    return folder
