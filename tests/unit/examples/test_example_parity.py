"""The handlers of the diamond with a decision and two batches."""

from __future__ import annotations

from typing import Any

import pytest

from examples import parity
from tasker.testing import make_context, run_handler
from tests.unit.examples.contexts import stored_share


@pytest.mark.parametrize(("kind", "kept"), [("even", [0, 2, -4]), ("odd", [1, -3])])
async def test_a_branch_keeps_its_numbers(kind: str, kept: list[int]) -> None:
    dependencies = {"ddb_diamond_start": {"numbers": [0, 1, 2, -3, -4]}}
    ran = await run_handler(parity.Filter, make_context(dependencies=dependencies, config={"parity": kind}))
    assert ran.result == {"numbers": kept}


async def test_there_are_two_kinds_of_numbers() -> None:
    ran = await run_handler(parity.Filter, make_context(config={"parity": "prime"}))
    assert ran.error is not None
    assert ran.error.message == "initialization.parity must be even or odd, got 'prime'"


@pytest.mark.parametrize(
    ("evens", "odds", "analyzer"),
    [
        ([2, 4], [1], "even_batch_analyzer"),
        ([2], [1, 3], "odd_batch_analyzer"),
        ([2], [1], "even_batch_analyzer"),
    ],
)
async def test_the_majority_decides_and_a_tie_is_even(
    evens: list[int], odds: list[int], analyzer: str
) -> None:
    dependencies = {"branch_evens": {"numbers": evens}, "branch_odds": {"numbers": odds}}
    ran = await run_handler(parity.RouteByMajority, make_context(dependencies=dependencies))
    outcome: dict[str, Any] = ran.result["decision_point_outcome"]
    assert outcome["step_names"] == [analyzer]


async def test_a_share_is_added_up() -> None:
    inputs = {"source": "branch_odds"} | stored_share(2, 4, batch_id="002")
    dependencies = {"branch_odds": {"numbers": [1, 3, 5, 7, 9]}}
    ran = await run_handler(parity.SumRange, make_context(dependencies=dependencies, step_inputs=inputs))
    assert ran.result == {"sum": 12, "count": 2}


async def test_the_average_of_the_batches_is_whole() -> None:
    results = {
        "odd_batch_analyzer": {"batch_processing_outcome": {"type": "create_batches"}},
        "process_odd_batch_001": {"sum": 4},
        "process_odd_batch_002": {"sum": 9},
    }
    config = {"analyzer": "odd_batch_analyzer", "workers": "process_odd_batch"}
    ran = await run_handler(parity.AggregateSums, make_context(dependencies=results, config=config))
    assert ran.result == {"total_sum": 13, "batch_count": 2, "average": 6}
