"""Scenarios of whole workflows, read from `scenarios.yaml`, and the services that run them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import examples
from tasker.client import Task, TaskerClient
from tasker.worker import HandlerRegistry, load_handlers
from tests.support import services, waiting

EXAMPLES: Final = Path(examples.__file__).parent
PROBES: Final = Path(__file__).parent / "templates"

#: What is in the files of the inventory, by their names: what each worker finds, and what they find together.
PRODUCTS: Final[Mapping[str, Any]] = json.loads(
    (Path(__file__).parent / "products_expected.json").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Scenario:
    """A task to create, and how it must end; `scenarios.yaml` explains the fields."""

    name: str
    template: str
    context: Mapping[str, Any]
    task_state: str
    steps: Mapping[str, list[str]]
    initial_step_count: int | None = None
    absent_steps: Sequence[str] = ()
    attempts: Mapping[str, int] = field(default_factory=dict)
    checkpoint_cursors: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Run:
    """A task as it was created and as it ended."""

    created: Task
    settled: Task


def load() -> list[Scenario]:
    """Return all scenarios."""
    text = (Path(__file__).parent / "scenarios.yaml").read_text(encoding="utf-8")
    return [Scenario(**fields) for fields in yaml.safe_load(text)]


async def run(client: TaskerClient, template: str, context: Mapping[str, Any]) -> Run:
    """Create a task and wait for its end."""
    namespace, _, name = template.partition("/")
    created = await client.create(namespace, name, context)
    return Run(created, await client.wait(created.task_uuid, timeout=waiting.PATIENCE_SECONDS))


@asynccontextmanager
async def served(database_url: str) -> AsyncIterator[TaskerClient]:
    """Run both services with every template of the examples and of the probes; yield a client."""
    async with (
        services.orchestration(database_url) as orchestration,
        services.worker(database_url, load_handlers(EXAMPLES), EXAMPLES),
        services.worker(database_url, HandlerRegistry(), PROBES),
        TaskerClient(orchestration.address) as client,
    ):
        with found_at(orchestration.address):
            yield client


@contextmanager
def found_at(address: str) -> Iterator[None]:
    """Tell handlers that create tasks where to."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TASKER_ADDRESS", address)
        yield
