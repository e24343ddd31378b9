"""Analyzers and workers of batches, in both styles."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import pytest

from tasker.domain.templates import document
from tasker.testing import batch_inputs, make_context, no_op_inputs, run_handler
from tasker.worker import (
    Batchable,
    BatchAnalyzerOutcome,
    BatchConfig,
    BatchWorkerContext,
    BatchWorkerOutcome,
    Config,
    CursorConfig,
    HandlerMethodNotFoundError,
    NoBatches,
    StepContext,
    StepHandler,
    StepHandlerResult,
    batch_analyzer,
    batch_worker,
    step_handler,
)
from tasker.worker.handlers.batches import DEFAULT_BATCH_SIZE
from tests.unit.handlers.conftest import NewContext, Run

TWO_BATCHES = {
    "batch_processing_outcome": {
        "type": "create_batches",
        "worker_template_name": "load_rows",
        "worker_count": 2,
        "total_items": 900,
        "cursor_configs": [
            {"batch_id": "001", "start_cursor": 0, "end_cursor": 450, "batch_size": 450},
            {"batch_id": "002", "start_cursor": 450, "end_cursor": 900, "batch_size": 450},
        ],
    },
    "worker_count": 2,
    "total_items": 900,
    "batch_metadata": {"table": "rows"},
}
NOTHING = {"batch_processing_outcome": {"type": "no_batches"}, "reason": "empty_dataset"}


class Rows(Batchable, StepHandler):
    handler_name = "rows"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.batch_analyzer_success(
            worker_template_name="load_rows",
            cursor_configs=self.create_cursor_ranges(900, 450),
            total_items=900,
            batch_metadata={"table": "rows"},
        )

    def by_outcome(self, context: StepContext) -> StepHandlerResult:
        outcome = self.create_batch_outcome(900, 450, batch_metadata={"table": "rows"})
        return self.batch_analyzer_success(outcome, {"note": 1}, worker_template_name="load_rows")

    def by_ranges(self, context: StepContext) -> StepHandlerResult:
        ranges = self.create_cursor_configs(900, 2)
        outcome = self.create_batch_outcome_from_ranges(ranges, batch_metadata={"table": "rows"})
        return self.batch_analyzer_success(outcome, worker_template_name="load_rows")

    def nothing(self, context: StepContext) -> StepHandlerResult:
        return self.batch_analyzer_success()

    def small(self, context: StepContext) -> StepHandlerResult:
        return self.no_batches_outcome("small", {"note": 1}, {"total": 3})


async def test_an_analyzer_reports_its_plan_alike_in_both_styles(run: Run) -> None:
    @batch_analyzer("rows", worker_template="load_rows")
    def sync() -> BatchConfig:
        return BatchConfig(900, 450, {"table": "rows"})

    @batch_analyzer("rows", "load_rows")
    async def on_the_loop() -> BatchAnalyzerOutcome:
        return Rows().create_batch_outcome(900, 450, batch_metadata={"table": "rows"})

    for handler in (sync, on_the_loop, Rows):
        assert (await run(handler)).result == TWO_BATCHES
    for method in ("by_outcome", "by_ranges"):
        assert (await run(Rows, method=method)).result == TWO_BATCHES


class Sized(StepHandler, Batchable):
    """Leaves the size of a batch to the template, in each way a class can."""

    handler_name = "sized"

    async def call(self, context: StepContext) -> BatchConfig:
        return BatchConfig(900)

    def wrapped(self, context: StepContext) -> StepHandlerResult:
        return StepHandlerResult.success(BatchConfig(900))

    def by_outcome(self, context: StepContext) -> StepHandlerResult:
        return self.batch_analyzer_success(self.create_batch_outcome(900, context=context))


@batch_analyzer("sized")
def sized_analyzer() -> BatchConfig:
    return BatchConfig(900)


@step_handler("sized")
async def sized_step() -> BatchConfig:
    return BatchConfig(900)


ANALYZERS = [
    (sized_analyzer, "call"),
    (sized_step, "call"),
    (Sized, "call"),
    (Sized, "wrapped"),
    (Sized, "by_outcome"),
]


@pytest.mark.parametrize(("handler", "method"), ANALYZERS)
@pytest.mark.parametrize(("batch_size", "count"), [(450, 2), (100, 9), (None, 1)])
async def test_the_template_says_how_large_a_batch_is(
    handler: Any, method: str, batch_size: int | None, count: int
) -> None:
    result = await run_handler(handler, make_context(batch_size=batch_size), method=method)
    assert result.result["worker_count"] == count
    parts = result.result["batch_processing_outcome"]["cursor_configs"]
    assert {part["batch_size"] for part in parts} == {900 // count}


async def test_the_handlers_own_batch_size_comes_before_the_templates(run: Run) -> None:
    @batch_analyzer("rows", "load_rows")
    def rows() -> BatchConfig:
        return BatchConfig(900, 450, {"table": "rows"})

    assert (await run(rows, batch_size=100)).result == TWO_BATCHES
    assert (await run(Rows, method="by_outcome", batch_size=100)).result == TWO_BATCHES


def test_a_size_comes_from_somewhere() -> None:
    assert document.BatchConfig(worker_template="w").batch_size == DEFAULT_BATCH_SIZE
    with pytest.raises(ValueError, match="needs batch_size, or context=context"):
        Rows().create_batch_outcome(900)
    with pytest.raises(ValueError, match="batch_size must be at least 1, and is 0"):
        BatchConfig(900, 0)
    with pytest.raises(ValueError, match="total_items must not be negative"):
        BatchConfig(-1)


async def test_no_items_are_no_batches(run: Run) -> None:
    @batch_analyzer("rows")
    def none() -> BatchConfig:
        return BatchConfig(0, 450)

    @batch_analyzer("rows")
    async def said() -> NoBatches:
        return NoBatches()

    @batch_analyzer("rows")
    def done() -> NoBatches:
        return NoBatches("small", {"total": 3})

    for handler in (none, said):
        assert (await run(handler)).result == NOTHING
    assert (await run(Rows, method="nothing")).result == NOTHING
    small = NOTHING | {"reason": "small", "total": 3}
    assert (await run(done)).result == (await run(Rows, method="small")).result == small


async def test_the_template_names_the_worker_where_the_handler_does_not(run: Run) -> None:

    @batch_analyzer("rows")
    def rows() -> BatchConfig:
        return BatchConfig(10, 5, max_batches=1, first_cursor=1)

    @step_handler("rows")
    def plain() -> BatchConfig:
        return BatchConfig(10, 5, max_batches=1, first_cursor=1)

    for handler in (rows, plain):
        outcome = (await run(handler)).result["batch_processing_outcome"]
        assert "worker_template_name" not in outcome
        assert outcome["cursor_configs"] == [
            {"batch_id": "001", "start_cursor": 1, "end_cursor": 11, "batch_size": 10}
        ]


async def test_an_outcome_may_name_its_own_worker_and_any_cursors(run: Run) -> None:
    first, last = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)

    @batch_analyzer("days", worker_template="another")
    def days() -> BatchAnalyzerOutcome:
        own = [
            CursorConfig("001", first, last, 31),
            CursorConfig("002", UUID(int=1), {"page": (1, "x")}, 0),
        ]
        return BatchAnalyzerOutcome(own, 31, "days_worker")

    outcome = (await run(days)).result["batch_processing_outcome"]
    assert outcome["worker_template_name"] == "days_worker"
    assert [(one["start_cursor"], one["end_cursor"]) for one in outcome["cursor_configs"]] == [
        ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        (str(UUID(int=1)), {"page": [1, "x"]}),
    ]


@pytest.mark.parametrize("value", [None, 900, {"batch_processing_outcome": {"type": "no_batches"}}])
async def test_what_is_no_plan_fails_for_good(value: object, run: Run) -> None:
    @batch_analyzer("rows")
    async def rows() -> Any:
        return value

    result = await run(rows)
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("batch_outcome_invalid", False)
    assert f"'rows' returned {type(value).__name__}" in result.error.message


SHARE = batch_inputs(201, 401, batch_id="002", cursor_field="row")


@batch_worker("by_name")
def by_name(batch_context):  # type: ignore[no-untyped-def]
    return {"rows": [batch_context.start_cursor, batch_context.end_cursor]}


@batch_worker("by_type")
async def by_type(share: BatchWorkerContext) -> dict[str, Any]:
    return {"rows": [share.start_cursor, share.end_cursor]}


class LoadRows(StepHandler, Batchable):
    handler_name = "load_rows"

    def call(self, context: StepContext) -> StepHandlerResult:
        if (nothing := self.handle_no_op_worker(context)) is not None:
            return nothing
        share = self.get_batch_context(context)
        if share is None:
            return self.failure("no share of any batch", retryable=False)
        assert self.handle_no_op_worker(share) is None
        assert self.get_batch_worker_inputs(context) == SHARE
        return self.success({"rows": [share.start_cursor, share.end_cursor]})


WORKERS = (by_name, by_type, LoadRows)


@pytest.mark.parametrize("worker", WORKERS)
async def test_a_worker_gets_its_share(worker: Any, run: Run) -> None:
    assert (await run(worker, step_inputs=SHARE)).result == {"rows": [201, 401]}


@pytest.mark.parametrize("worker", WORKERS)
async def test_a_placeholder_is_answered_at_once(worker: Any, run: Run) -> None:
    result = await run(worker, step_inputs=no_op_inputs())
    assert result.result == {"no_op": True, "batch_id": "000", "processed_count": 0}


async def test_without_a_share_a_worker_is_told_so(run: Run) -> None:
    @batch_worker("either")
    def either(batch_context: BatchWorkerContext | None) -> bool:
        return batch_context is None

    assert (await run(either)).result == {"result": True}
    refused = await run(by_type)
    assert refused.error is not None
    assert refused.error.error_type == "validation_error"
    assert "batch_context: is missing" in refused.error.message
    assert not (await run(LoadRows)).success


async def test_the_configuration_of_an_instance_is_the_templates(run: Run) -> None:
    @batch_worker("configured")
    def configured(config: Annotated[dict[str, Any], Config()], share: BatchWorkerContext) -> Any:
        return [config, share.batch_id]

    inputs = SHARE | {"operation": "sum", "__template_step_name": "load_rows"}
    assert (await run(configured, step_inputs=inputs)).result == {"result": [{"operation": "sum"}, "002"]}


def test_a_share_says_all_about_itself(new_context: NewContext) -> None:
    context = new_context(
        step_inputs=SHARE | {"cursor": SHARE["cursor"] | {"step_size": 2, "region": "eu"}},
        dependencies=("analyze",),
        dependency_results={"analyze": TWO_BATCHES},
        checkpoint={"cursor": 250, "items_processed": 50, "accumulated_results": {"sum": 7}},
    )
    share = BatchWorkerContext.of(context)
    assert share is not None
    assert (share.batch_id, share.batch_index, share.total_batches) == ("002", 1, 2)
    assert (share.batch_size, share.step_size, share.is_no_op) == (200, 2, False)
    assert share.cursor_config == CursorConfig("002", 201, 401, 200, 2, {"region": "eu"})
    assert share.batch_metadata == {"cursor_field": "row", "failure_strategy": "fail_fast"}
    assert (share.has_checkpoint(), share.checkpoint_cursor, share.next_cursor) == (True, 250, 250)
    assert (share.checkpoint_items_processed, share.accumulated_results) == (50, {"sum": 7})
    fresh = BatchWorkerContext.of(new_context(step_inputs=SHARE))
    assert fresh is not None
    assert (fresh.has_checkpoint(), fresh.next_cursor, fresh.total_batches) == (False, 201, None)
    for inputs in (None, {}, {"cursor": 7, "is_no_op": False}, {"cursor": {"page": 1}}):
        assert BatchWorkerContext.of(new_context(step_inputs=inputs)) is None


def reported(**counts: Any) -> Mapping[str, Any]:
    body = LoadRows().batch_worker_success(**counts).result
    assert isinstance(body, dict)
    return body


def test_a_worker_counts() -> None:
    assert reported(items_processed=9, items_succeeded=8, items_failed=1, last_cursor=450) == {
        "items_processed": 9,
        "items_succeeded": 8,
        "items_failed": 1,
        "items_skipped": 0,
        "last_cursor": 450,
        "batch_metadata": {},
        "results": [],
        "errors": [],
    }
    assert reported(items_processed=9, items_failed=2, items_skipped=3)["items_succeeded"] == 4
    assert reported(items_processed=9, items_succeeded=0)["items_succeeded"] == 0
    assert reported(items_succeeded=3, items_failed=1)["items_processed"] == 4
    assert LoadRows().batch_worker_complete(5, items_failed=1).result["items_succeeded"] == 4


def test_a_partial_failure_is_a_success_with_notes() -> None:
    outcome = BatchWorkerOutcome(9, items_failed=1, errors=["row 3"])
    said = LoadRows().batch_worker_partial_failure(outcome, "one row is broken")
    assert said.is_success
    assert said.metadata == {"partial_failure": True, "message": "one row is broken"}
    assert (said.result["items_succeeded"], said.result["errors"]) == (8, ["row 3"])
    assert LoadRows().batch_worker_partial_failure(outcome).metadata == {"partial_failure": True}


async def test_templates_cannot_run_what_the_mixin_offers_to_authors(run: Run) -> None:
    assert Rows().capabilities == LoadRows().capabilities == ["process", "batch"]
    with pytest.raises(
        HandlerMethodNotFoundError, match="it has by_outcome, by_ranges, call, nothing, small"
    ):
        await run(Rows, method="create_cursor_ranges")
