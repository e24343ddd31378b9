"""Putting the results of a batch together."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tasker.testing import make_context, run_handler
from tasker.worker import (
    Batchable,
    BatchAggregationScenario,
    BatchWorkerOutcome,
    HandlerDefinitionError,
    StepContext,
    StepHandler,
    StepHandlerResult,
    StepValidationError,
    aggregate_worker_results,
    batch_aggregator,
    depends_on,
    step_handler,
)
from tests.unit.handlers.conftest import Run

PLANNED = {"batch_processing_outcome": {"type": "create_batches"}, "total_items": 3}
NOTHING = {"batch_processing_outcome": {"type": "no_batches"}, "reason": "small", "total": 12}
FAILED = {"batch_failed": True, "error": {"message": "it broke"}, "processed_count": 2, "batch_id": "003"}
detect = BatchAggregationScenario.detect


@pytest.mark.parametrize("prefix", ["load_rows", "load_rows_"])
def test_instances_are_found_by_their_number_and_in_its_order(prefix: str) -> None:
    results: dict[str, Any] = {f"load_rows_{n:03d}": {"n": n} for n in (1000, 999, 2, 1)}
    strangers: dict[str, Any] = {
        "load_rows_report": {},
        "load_rows_": {},
        "preload_rows_001": {},
        "load_rows_007": None,
    }
    found = detect({"analyze": PLANNED} | results | strangers, "analyze", prefix)
    assert list(found.batch_results) == ["load_rows_001", "load_rows_002", "load_rows_999", "load_rows_1000"]
    assert (found.worker_count, found.is_no_batches, found.batchable_result) == (4, False, PLANNED)


def test_without_batches_the_analyzer_speaks() -> None:
    placeholder = {"no_op": True, "batch_id": "000", "processed_count": 0}
    found = detect({"analyze": NOTHING, "load_rows_000": placeholder}, "analyze", "load_rows_")
    assert (found.is_no_batches, found.worker_count, dict(found.batch_results)) == (True, 0, {})
    assert found.batchable_result["total"] == 12


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ({"load_rows_001": {}}, "no result of the batchable step 'analyze'; known: load_rows_001"),
        ({}, "known: none"),
        ({"analyze": PLANNED}, "workflow configuration: no step named load_rows_<digits>"),
        ({"analyze": PLANNED, "load_rows_001": None}, "no step named load_rows_<digits>"),
    ],
)
def test_a_template_that_is_wired_wrongly_is_told_so(results: dict[str, Any], says: str) -> None:

    with pytest.raises(ValueError, match=says):
        detect(results, "analyze", "load_rows_")


class Sum(BaseModel):
    total: int


def test_results_are_read_as_models() -> None:
    results = {"analyze": PLANNED, "w_001": {"total": 1}, "w_002": {"total": 2}, "w_003": FAILED}
    found = detect(results, "analyze", "w")
    assert [one.total for one in found.results_as(Sum)] == [1, 2]
    assert found.failed_batches == {"w_003": FAILED}


class Aliased(BaseModel):
    row_count: int = Field(alias="rowCount")


class Dated(BaseModel):
    model_config = ConfigDict(strict=True)
    on: date


@pytest.mark.parametrize(
    ("kind", "returned", "model"),
    [
        (int, 7, 7),
        (Aliased, Aliased(rowCount=3), Aliased(rowCount=3)),
        (Dated, Dated(on=date(2026, 1, 31)), Dated(on=date(2026, 1, 31))),
        (dict[str, Any], {"a": 1}, {"a": 1}),
    ],
)
async def test_results_are_read_as_a_dependency_is(kind: Any, returned: object, model: object) -> None:
    @step_handler("one")
    @depends_on(result=("w_001", kind))
    def one(result: object) -> None:
        assert result == model

    @batch_aggregator("all", analyzer="analyze", workers="w")
    def all_of_them(batches: BatchAggregationScenario) -> None:
        assert batches.results_as(kind) == [model]

    for handler in (one, all_of_them):
        context = make_context(dependencies={"analyze": PLANNED, "w_001": returned})
        assert (await run_handler(handler, context)).error is None


async def test_results_that_do_not_fit_are_named_without_their_values() -> None:
    @batch_aggregator("all", analyzer="analyze", workers="w")
    def all_of_them(batches: BatchAggregationScenario) -> int:
        return len(batches.results_as(Sum))

    results = {"w_001": {"total": "s3cret"}, "w_002": {"total": 1}, "w_003": {"sum": "s3cret"}}
    result = await run_handler(all_of_them, make_context(dependencies={"analyze": PLANNED} | results))
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("validation_error", False)
    for problem in ("dependencies.w_001.total: Input should be", "dependencies.w_003.total: Field required"):
        assert problem in result.error.message
    assert [one["field"] for one in result.error.context["fields"]] == [
        "dependencies.w_001.total",
        "dependencies.w_003.total",
    ]
    assert "s3cret" not in str(result.to_json())
    many = detect({"analyze": PLANNED} | {f"w_{n:03d}": {} for n in range(1, 300)}, "analyze", "w")
    with pytest.raises(StepValidationError) as raised:
        many.results_as(Sum)
    assert len(raised.value.context["fields"]) == 100


def test_counts_are_added_up() -> None:
    returned = [
        BatchWorkerOutcome(10, items_failed=2, errors=["a", "b"]).to_json(),
        BatchWorkerOutcome(5, items_succeeded=0, items_skipped=5).to_json(),
        None,
        FAILED,
    ]
    assert aggregate_worker_results(returned) == {
        "total_processed": 15,
        "total_succeeded": 8,
        "total_failed": 2,
        "total_skipped": 5,
        "batch_count": 3,
        "success_rate": 8 / 15,
        "errors": ["a", "b", {"message": "it broke"}],
        "error_count": 3,
    }
    assert aggregate_worker_results([])["success_rate"] == 0.0
    many = aggregate_worker_results([{"errors": [f"row {n}" for n in range(80)]}] * 2)
    assert (len(many["errors"]), many["error_count"]) == (100, 160)


class Total(StepHandler, Batchable):
    handler_name = "total"

    def call(self, context: StepContext) -> StepHandlerResult:
        found = self.detect_aggregation_scenario(context.dependency_results, "analyze", "w_")
        return self.aggregate_batch_worker_results(
            found,
            zero_metrics={"total": 0},
            aggregation_fn=lambda results: {"total": sum(one["total"] for one in results.values())},
        )

    def counts(self, context: StepContext) -> StepHandlerResult:
        found = self.detect_aggregation_scenario(context.dependency_results, "analyze", "w_")
        return self.aggregate_batch_worker_results(found)


@batch_aggregator("total", analyzer="analyze", workers="w")
def by_type(found: BatchAggregationScenario) -> dict[str, int]:
    return {"total": sum(one.total for one in found.results_as(Sum)), "worker_count": found.worker_count}


@batch_aggregator("total", analyzer="analyze", workers="w_")
async def by_name(batches):  # type: ignore[no-untyped-def]
    return {"total": sum(one.total for one in batches.results_as(Sum)), "worker_count": batches.worker_count}


@pytest.mark.parametrize("total", [Total, by_type, by_name])
async def test_aggregators_in_both_styles(total: Any, run: Run) -> None:
    results = {"analyze": PLANNED, "w_001": {"total": 1}, "w_002": {"total": 2}}
    assert (await run(total, dependency_results=results)).result == {"total": 3, "worker_count": 2}
    nothing = await run(total, dependency_results={"analyze": NOTHING, "w_000": {"no_op": True}})
    assert nothing.result == {"total": 0, "worker_count": 0}
    lost = await run(total, dependency_results={"w_001": {"total": 1}})
    assert lost.error is not None
    assert (lost.error.retryable, lost.error.error_type) == (False, "permanent_error")
    assert "workflow configuration" in lost.error.message


async def test_without_a_function_the_counts_are_added_up(run: Run) -> None:
    counted = BatchWorkerOutcome(10).to_json()
    found = await run(Total, method="counts", dependency_results={"analyze": PLANNED, "w_001": counted})
    assert (found.result["total_succeeded"], found.result["worker_count"]) == (10, 1)
    nothing = await run(Total, method="counts", dependency_results={"analyze": NOTHING})
    assert (nothing.result["total_processed"], nothing.result["worker_count"]) == (0, 0)


def test_an_aggregator_needs_the_names_of_its_steps() -> None:
    with pytest.raises(HandlerDefinitionError, match="needs the names of the batchable step"):
        batch_aggregator("total", analyzer="", workers="w")
    with pytest.raises(HandlerDefinitionError, match="'found' has no source"):

        @step_handler("plain")
        def plain(found: BatchAggregationScenario) -> None: ...
