"""The handlers of the inventory, on the files that come with it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from examples import inventory
from tasker.testing import make_context, run_handler
from tasker.worker import BatchAggregationScenario
from tests.scenarios.scenarios import PRODUCTS
from tests.unit.examples.contexts import share, stored_share


def summaries(file: str) -> list[inventory.Summary]:
    """Return what the workers find that the analyzer plans."""
    plan = inventory.analyze_csv(Path(file), 200, 5).plan()
    return [
        inventory.summarise_rows(
            Path(file),
            share(config.start_cursor, config.end_cursor, batch_id=config.batch_id),  # type: ignore[arg-type]
        )
        for config in plan.cursor_configs
    ]


@pytest.mark.parametrize("file", PRODUCTS)
def test_each_worker_finds_what_is_in_its_rows(file: str) -> None:
    found = [summary.model_dump(mode="json") for summary in summaries(file)]
    expected = PRODUCTS[file]["workers"]
    assert [f"process_csv_batch_{one.pop('batch_id')}" for one in found] == [
        worker["name"] for worker in expected
    ]
    assert found == [{key: value for key, value in worker.items() if key != "name"} for worker in expected]


@pytest.mark.parametrize("file", PRODUCTS)
def test_together_they_find_what_is_in_the_file(file: str) -> None:
    parts = summaries(file)
    results = {f"process_csv_batch_{part.batch_id}": part.model_dump(mode="json") for part in reversed(parts)}
    total = inventory.aggregate(BatchAggregationScenario({}, results, not parts)).model_dump(mode="json")
    expected: dict[str, Any] = dict(PRODUCTS[file]["aggregate"])
    if parts:
        expected["overall_average_rating"] = expected.pop("average_rating")
    assert {key: total[key] for key in expected} == expected


def test_an_empty_file_comes_to_zeros() -> None:
    nothing = inventory.aggregate(BatchAggregationScenario({}, {}, is_no_batches=True))
    assert nothing.model_dump() == {
        "total_processed": 0,
        "worker_count": 0,
        "total_inventory_value": 0,
        "category_counts": {},
        "max_price": 0,
        "max_price_product": None,
        "overall_average_rating": 0,
    }


def test_an_average_is_weighed_by_the_rows_behind_it() -> None:
    assert inventory.mean([(Decimal(1), 3), (Decimal(5), 1)]) == Decimal(2)


async def test_a_placeholder_reads_no_file() -> None:
    inputs = {"csv_file_path": "no_such_file.csv"}
    step_inputs = stored_share(0, 0, batch_id="000")
    ran = await run_handler(inventory.summarise_rows, make_context(inputs=inputs, step_inputs=step_inputs))
    assert ran.result == {"no_op": True, "batch_id": "000", "processed_count": 0}


async def test_a_file_that_is_not_there_stays_missing() -> None:
    config = {"batch_size": 200, "max_workers": 5}
    inputs = {"csv_file_path": "no_such_file.csv"}
    ran = await run_handler(inventory.analyze_csv, make_context(inputs=inputs, config=config))
    assert ran.error is not None
    assert "no_such_file.csv" in ran.error.message
    assert not ran.error.retryable
