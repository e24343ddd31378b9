"""How large a batch is where its analyzer does not say: as large as the template says."""

from __future__ import annotations

from typing import Any

import pytest

from tasker.worker import (
    Batchable,
    BatchConfig,
    HandlerRegistry,
    StepContext,
    StepHandler,
    StepHandlerResult,
    batch_analyzer,
)
from tests.integration.runtime.conftest import StartWorker
from tests.integration.runtime.stored import run_to_the_end
from tests.support.dynamic import workflow
from tests.support.engine import Engine


@batch_analyzer("cut")
async def function() -> BatchConfig:
    return BatchConfig(2000)


class Cut(StepHandler, Batchable):
    handler_name = "cut"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.batch_analyzer_success(self.create_batch_outcome(2000, context=context))


def config(size: int | None) -> dict[str, Any]:
    return {"batch_config": {"worker_template": "w"} | ({} if size is None else {"batch_size": size})}


#: batch_config of the batchable and of the batch_worker, and the size that counts.
SIZES = {
    "the batchable's": (config(400), {}, 400),
    "the worker's": ({}, config(500), 500),
    "the worker's before the batchable's": (config(400), config(500), 500),
    "the default": (config(None), {}, 1000),
}


@pytest.mark.parametrize("handler", [function, Cut], ids=["function", "class"])
@pytest.mark.parametrize("which", SIZES)
async def test_a_batch_is_as_large_as_its_template_says(
    engine: Engine, start_worker: StartWorker, handler: Any, which: str
) -> None:
    batchable, worker, size = SIZES[which]
    seen: dict[str, int | None] = {}

    def work(context: StepContext) -> dict[str, Any]:
        seen[context.step_name] = context.batch_size
        return {}

    registry = HandlerRegistry()
    registry.register(handler)
    registry.register(work, name="work")
    document = workflow(
        "b: batchable", "w: batch_worker < b", "c: deferred_convergence < w",
        b={"handler": "cut"} | batchable, w=worker,
    )  # fmt: skip
    task = await engine.create(document)
    await start_worker(document, registry=registry)
    found = await run_to_the_end(engine, task)
    instances = {f"w_{n:03}" for n in range(1, 2000 // size + 1)}
    assert set(found) == {"b", "c", *instances}
    parts = found["b"].result["batch_processing_outcome"]["cursor_configs"]
    assert {part["batch_size"] for part in parts} == {size}
    assert seen == {"c": None, **dict.fromkeys(instances, size)}
