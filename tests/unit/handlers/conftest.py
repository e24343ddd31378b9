from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol
from uuid import UUID

import pytest

from tasker.worker import HandlerRegistry, StepContext, StepExecutionResult
from tasker.worker.handlers.attempts import WorkerIdentity
from tasker.worker.handlers.execution import Execution
from tasker.worker.handlers.sealing import SealedResult
from tasker.worker.handlers.threads import HandlerThreads

TASK = UUID("01980000-0000-7000-8000-000000000001")
STEP = UUID("01980000-0000-7000-8000-000000000002")
CORRELATION = UUID("01980000-0000-7000-8000-000000000003")
WORKER = WorkerIdentity("worker_01980000-0000-7000-8000-00000000000a", "box")


class NewContext(Protocol):
    def __call__(self, **fields: Any) -> StepContext: ...


class Run(Protocol):
    """Registers a function, class or instance, executes it, and returns the stored form of its result."""

    def __call__(
        self, target: Any, *, method: str | None = None, timeout_seconds: float = 5.0, **fields: Any
    ) -> Awaitable[StepExecutionResult]: ...


async def sealed_by(execution: Execution) -> SealedResult:
    """Return the result of a run that does not end with a checkpoint."""
    ended = await execution.end()
    assert isinstance(ended, SealedResult)
    return ended


@pytest.fixture
def new_context() -> NewContext:
    def make(**fields: Any) -> StepContext:
        known: dict[str, Any] = {
            "task_uuid": TASK,
            "step_uuid": STEP,
            "correlation_id": CORRELATION,
            "namespace": "shop",
            "step_name": "the_step",
            "handler_name": "the_handler",
        }
        return StepContext(**(known | fields))

    return make


@pytest.fixture
def pool() -> Iterator[HandlerThreads]:
    with HandlerThreads(4) as executor:
        yield executor


@pytest.fixture
async def start(pool: HandlerThreads, new_context: NewContext) -> AsyncIterator[Callable[..., Execution]]:
    """Start a target; whatever still runs at the end of the test is waited for."""
    started: list[Execution] = []

    def begin(
        target: Any, *, method: str | None = None, timeout_seconds: float = 5.0, **fields: Any
    ) -> Execution:
        registry = HandlerRegistry()
        handler = registry.resolve(registry.register(target), method)
        execution = Execution(
            handler, new_context(**fields), timeout_seconds=timeout_seconds, executor=pool, worker=WORKER
        )
        started.append(execution)
        return execution

    yield begin
    for execution in started:
        await execution.released


@pytest.fixture
def run(start: Callable[..., Execution]) -> Run:
    async def run_it(target: Any, **options: Any) -> StepExecutionResult:
        sealed = await sealed_by(start(target, **options))
        assert sealed.payload  # every result was encoded, so it can be stored
        return sealed.result

    return run_it
