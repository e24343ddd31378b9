"""The handlers of the large dataset."""

from __future__ import annotations

from typing import Any

import pytest

from examples import datasets
from tasker.domain.results import StepExecutionResult
from tasker.testing import make_context, run_handler
from tests.unit.examples.contexts import stored_share

CONFIG = {"batch_size": 1000, "max_workers": 10}


async def analyzed(size: int) -> dict[str, Any]:
    context = make_context(inputs={"dataset_size": size}, config=CONFIG)
    ran = await run_handler(datasets.AnalyzeDataset, context)
    assert ran.success
    return dict(ran.result)


@pytest.mark.parametrize(
    ("size", "batches"),
    [
        (1000, [1000]),
        (1001, [501, 500]),
        (3500, [875] * 4),
        (5000, [1000] * 5),
        (25_000, [2500] * 10),
    ],
)
async def test_items_are_shared_out_evenly(size: int, batches: list[int]) -> None:
    outcome = (await analyzed(size))["batch_processing_outcome"]
    assert [config["batch_size"] for config in outcome["cursor_configs"]] == batches


@pytest.mark.parametrize("size", [0, 50, 999])
async def test_a_few_items_are_done_at_once(size: int) -> None:
    result = await analyzed(size)
    assert result["batch_processing_outcome"] == {"type": "no_batches"}
    assert (result["items_processed"], result["value"]) == (size, size * (size - 1))


async def worked(start: int, end: int) -> StepExecutionResult:
    return await run_handler(datasets.ProcessRange, make_context(step_inputs=stored_share(start, end)))


async def test_the_placeholder_does_nothing() -> None:
    assert (await worked(0, 0)).result["no_op"] is True


async def test_a_step_that_is_no_instance_fails() -> None:
    ran = await run_handler(datasets.ProcessRange, make_context())
    assert ran.error is not None
    assert not ran.error.retryable


@pytest.mark.parametrize("size", [50, 3500])
async def test_no_item_is_left_out_and_none_is_done_twice(size: int) -> None:
    results = {"analyze_dataset": await analyzed(size)}
    configs = results["analyze_dataset"]["batch_processing_outcome"].get("cursor_configs", [])
    for config in configs:
        done = await worked(config["start_cursor"], config["end_cursor"])
        results[f"process_batch_{config['batch_id']}"] = dict(done.result)
    total = await run_handler(datasets.Aggregate, make_context(dependencies=results))
    assert total.result == {
        "total_processed": size,
        "total_value": size * (size - 1),
        "worker_count": len(configs),
    }
