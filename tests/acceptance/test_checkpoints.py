"""Steps go on from their checkpoints, whatever becomes of their worker."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest

from tasker.config.settings import WorkerSettings
from tasker.domain.retry import LEASE
from tasker.worker import (
    BatchAggregationScenario,
    BatchConfig,
    BatchWorkerContext,
    HandlerRegistry,
    Inputs,
    RetryableError,
    StepContext,
    batch_aggregator,
    batch_analyzer,
    batch_worker,
    checkpoint_yield,
)
from tasker.worker.runtime.worker import Worker
from tests.support import services
from tests.support.engine import Engine
from tests.support.processes import ServiceProcess
from tests.support.waiting import until

DOCUMENT: dict[str, Any] = {
    "name": "adding",
    "namespace_name": "test",
    "version": "1.0.0",
    "identity_strategy": "always_unique",
    "steps": [
        {
            "name": "analyze",
            "type": "batchable",
            "handler": "analyze",
            "batch_config": {"worker_template": "add_up", "cursor_field": "row"},
        },
        {
            "name": "add_up",
            "type": "batch_worker",
            "dependencies": ["analyze"],
            "handler": "add_up",
            "retry": {"max_attempts": 3, "backoff": "none"},
        },
        {"name": "join", "type": "deferred_convergence", "dependencies": ["add_up"], "handler": "join"},
    ],
}


@pytest.fixture
async def start(engine: Engine, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start a worker with some handlers."""
    workers: list[Worker] = []

    async def begin(*handlers: Any) -> None:
        registry = HandlerRegistry()
        for handler in handlers:
            registry.register(handler)
        templates = services.write_templates(tmp_path / "templates", DOCUMENT)
        worker = Worker(WorkerSettings.load(database_url=engine.url, template_path=templates), registry)
        await worker.start()
        workers.append(worker)

    yield begin
    for worker in workers:
        await worker.stop()


async def settled(engine: Engine, task: UUID) -> bool:
    """Process what was submitted, let retries come due, and tell whether nothing more happens."""
    await engine.process()
    await engine.timers.tick()
    return await engine.state(task) in ("complete", "blocked_by_failures")


async def result_of(engine: Engine, task: UUID, step: str) -> Any:
    """Return the newest result of a step."""
    rows = await engine.sql(
        "SELECT r.result FROM tasker.step_results r JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) "
        "WHERE s.task_uuid = %s AND s.name = %s ORDER BY r.sort_key DESC LIMIT 1",
        task,
        step,
    )
    return rows[0][0]


@batch_analyzer("analyze")
def analyze(items: Annotated[int, Inputs("items")]) -> BatchConfig:
    return BatchConfig(items, 100)


@batch_aggregator("join", analyzer="analyze", workers="add_up")
def join(batches: BatchAggregationScenario) -> dict[str, int]:
    return {"total": sum(result["total"] for result in batches.batch_results.values())}


async def test_a_failure_between_two_checkpoints_counts_nothing_twice(
    engine: Engine, start: Callable[..., Any]
) -> None:
    """A hundred items, twenty to a checkpoint, and a failure after fifty in the first attempt."""
    runs: list[tuple[int, int]] = []

    @batch_worker("add_up")
    def add_up(batch: BatchWorkerContext, context: StepContext) -> Any:
        gathered = batch.accumulated_results or {"total": 0, "yields": 0}
        total, place = gathered["total"], batch.next_cursor
        runs.append((context.attempt, place))
        stop = min(place + 20, batch.end_cursor)
        for item in range(place, stop):
            if item == 50 and context.attempt == 1:
                raise RetryableError("the line is down")
            total += item + 1
        if stop == batch.end_cursor:
            return {"total": total, "yields": gathered["yields"]}
        return checkpoint_yield(stop, stop, {"total": total, "yields": gathered["yields"] + 1})

    task = await engine.create(DOCUMENT, {"items": 100})
    await start(analyze, add_up, join)
    await until(lambda: settled(engine, task))
    assert await engine.state(task) == "complete"
    assert (await engine.steps(task))["add_up_001"].attempts == 2
    assert await result_of(engine, task, "add_up_001") == {"total": 5050, "yields": 4}
    assert await result_of(engine, task, "join") == {"total": 5050}
    assert runs == [(1, 0), (1, 20), (1, 40), (2, 40), (2, 60), (2, 80)]
    assert await engine.sql("SELECT 1 FROM tasker.workflow_steps WHERE checkpoint IS NOT NULL") == []


async def test_a_checkpoint_in_the_older_style_is_gone_on_with(
    engine: Engine, start: Callable[..., Any]
) -> None:
    """The handler yields nothing; its failure says how far it came."""

    @batch_worker("add_up")
    def add_up(batch: BatchWorkerContext, context: StepContext) -> Any:
        if context.attempt == 1:
            reached = {"checkpoint_progress": 50, "processed_before_failure": 50, "resumed_from": 0}
            raise RetryableError("the line is down", metadata=reached)
        left = batch.end_cursor - batch.next_cursor
        return {"resumed_from": batch.next_cursor, "total_processed": left, "total": left}

    task = await engine.create(DOCUMENT, {"items": 100})
    await start(analyze, add_up, join)
    await until(lambda: settled(engine, task))
    resumed = await result_of(engine, task, "add_up_001")
    assert resumed == {"resumed_from": 50, "total_processed": 50, "total": 50}
    assert (await engine.steps(task))["add_up_001"].attempts == 2


@pytest.mark.parametrize(
    "cursor",
    [
        "2026-01-31T12:00:00.123456+01:00",
        "01980000-0000-7000-8000-000000000001",
        {"page": 3, "after": {"id": "k-7", "at": 1.5}, "seen": [1, None, True]},
        2**53 + 1,
        -1.25,
        "ümläut \U0001f389",
        ["a", 1],
    ],
)
async def test_cursors_of_every_kind_come_back_as_they_were(
    engine: Engine, start: Callable[..., Any], cursor: Any
) -> None:
    seen: list[Any] = []

    @batch_worker("add_up")
    async def add_up(batch: BatchWorkerContext, context: StepContext) -> Any:
        seen.append(batch.checkpoint_cursor)
        if not batch.has_checkpoint():
            return checkpoint_yield(cursor, 1, {"last": cursor})
        assert batch.accumulated_results == {"last": cursor}
        if context.attempt == 1:
            raise RetryableError("once more")
        return {"total": context.checkpoint_items_processed}

    task = await engine.create(DOCUMENT, {"items": 5})
    await start(analyze, add_up, join)
    await until(lambda: settled(engine, task))
    assert await engine.state(task) == "complete"
    assert seen == [None, cursor, cursor]  # after the yield, and in the next attempt
    assert [type(one) for one in seen[1:]] == [type(cursor)] * 2


def runs_in(folder: Path) -> list[str]:
    """Return the runs that handlers told of: attempt and place of each."""
    return sorted(path.name for path in folder.glob("run-*"))


@pytest.fixture
def short_folder() -> Any:
    """A folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="tasker-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.own_database
async def test_a_worker_killed_after_a_yield_is_gone_on_with(engine: Engine, short_folder: Path) -> None:
    environment = {
        "DATABASE_URL": engine.url,
        "TASKER_TEMPLATE_PATH": str(services.write_templates(short_folder / "templates", DOCUMENT)),
        "PYTHON_HANDLER_PATH": str(Path(services.__file__).with_name("checkpoint_handlers.py")),
        "CHECKPOINT_FOLDER": str(short_folder),
    }
    task = await engine.create(DOCUMENT, {"items": 100, "hang_at": 50})
    process = ServiceProcess("worker", "worker", short_folder, environment)
    await process.start()
    try:

        async def hangs() -> bool:
            await engine.process()
            return (short_folder / "run-1-50").exists()

        await until(hangs, what=f"a worker that hangs: {process.tail()}")
        await process.kill()
        await engine.sweeper.tick()
        await engine.move_clock(LEASE.total_seconds() + 1)
        await engine.sweeper.tick()
        await process.start()
        await until(lambda: settled(engine, task), what=f"the end of the task: {process.tail()}")
    finally:
        await process.kill()
    assert await result_of(engine, task, "join") == {"total": 5050}
    assert (await engine.steps(task))["add_up_001"].attempts == 2
    assert runs_in(short_folder) == ["run-1-0", "run-1-25", "run-1-50", "run-2-50", "run-2-75"]
