"""A real worker on the test's database; the test is the orchestrator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tasker.config.settings import WorkerSettings
from tasker.worker import HandlerRegistry
from tasker.worker.runtime.worker import Worker
from tests.support import services
from tests.support.workshop import Workshop


class StartWorker(Protocol):
    """Starts a worker on some templates; it is stopped when the test ends."""

    async def __call__(
        self, *documents: Mapping[str, Any], registry: HandlerRegistry | None = None, **settings: object
    ) -> Worker: ...


@pytest.fixture
def new_worker(database_url: str, workshop: Workshop, tmp_path: Path) -> Callable[..., Worker]:
    """Make a worker that the test starts and stops."""

    def make(
        *documents: Mapping[str, Any], registry: HandlerRegistry | None = None, **settings: object
    ) -> Worker:
        folder = services.write_templates(tmp_path / "templates", *documents)
        given: dict[str, object] = {"template_path": folder, "shutdown_timeout_seconds": 10}
        return Worker(
            WorkerSettings.load(database_url=database_url, **given | settings),
            workshop.registry if registry is None else registry,  # an empty one is false
        )

    return make


@pytest.fixture
async def start_worker(new_worker: Callable[..., Worker]) -> AsyncIterator[StartWorker]:
    async with AsyncExitStack() as stack:

        async def start(
            *documents: Mapping[str, Any], registry: HandlerRegistry | None = None, **settings: object
        ) -> Worker:
            worker = new_worker(*documents, registry=registry, **settings)
            await worker.start()
            stack.push_async_callback(worker.stop)
            return worker

        yield start
