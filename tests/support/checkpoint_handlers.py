"""A batch whose worker yields checkpoints, for worker processes that are killed; reads nothing but this file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

from tasker.worker import (
    BatchAggregationScenario,
    BatchConfig,
    BatchWorkerContext,
    Inputs,
    StepContext,
    batch_aggregator,
    batch_analyzer,
    batch_worker,
    checkpoint_yield,
)


@batch_analyzer("analyze")
def analyze(items: Annotated[int, Inputs("items")]) -> BatchConfig:
    return BatchConfig(items, items)


@batch_worker("add_up")
async def add_up(
    batch: BatchWorkerContext, context: StepContext, hang_at: Annotated[int, Inputs("hang_at")]
) -> Any:
    """Item i is worth i + 1; 25 items to a checkpoint. Tells each run, and hangs in one of the first attempt."""
    place, total = batch.next_cursor, batch.accumulated_results or 0
    (Path(os.environ["CHECKPOINT_FOLDER"]) / f"run-{context.attempt}-{place}").touch()
    if context.attempt == 1 and place == hang_at:
        await asyncio.Event().wait()
    stop = min(place + 25, batch.end_cursor)
    total += sum(range(place + 1, stop + 1))
    if stop == batch.end_cursor:
        return {"total": total, "yields": place // 25}
    return checkpoint_yield(stop, stop - batch.start_cursor, total)


@batch_aggregator("join", analyzer="analyze", workers="add_up")
def join(batches: BatchAggregationScenario) -> dict[str, int]:
    return {"total": sum(result["total"] for result in batches.batch_results.values())}
