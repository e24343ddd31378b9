"""Whose batches a plan makes, and how many it may make."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tasker.domain.outcomes import MAX_BATCHES, planned_batches
from tasker.orchestration.engine.expansion import BatchLimits
from tasker.testing import make_context, run_handler
from tasker.worker import (
    Batchable,
    BatchAnalyzerOutcome,
    BatchConfig,
    CursorConfig,
    NoBatches,
    StepContext,
    StepHandler,
    StepHandlerResult,
    batch_analyzer,
    checkpoint_yield,
    step_handler,
)
from tasker.worker.handlers.cursors import TooManyBatchesError
from tests.unit.handlers.conftest import Run
from tests.unit.handlers.styles import Make, styles

mixin = Batchable()
PLANS: dict[str, Callable[[], Any]] = {
    "figures": lambda: BatchConfig(10, 5),
    "no size": lambda: BatchConfig(10),
    "no items": lambda: BatchConfig(0),
    "nothing": NoBatches,
    "ranges": lambda: BatchAnalyzerOutcome([CursorConfig("001", "a", "b", 1)], 1),
    "no ranges": lambda: BatchAnalyzerOutcome([], 0),
}
BODIES: dict[str, Callable[[], Any]] = {
    "split": lambda: mixin.batch_analyzer_success(BatchConfig(10, 5).plan()),
    "nothing": mixin.no_batches_outcome,
    "written": lambda: StepHandlerResult.success(
        {"batch_processing_outcome": {"type": "no_batches", "worker_template_name": None}, "rows": 1}
    ),
}


def worker_of(result: dict[str, Any]) -> str | None:
    """Return the worker as the engine reads it."""
    return planned_batches("analyze", result, max_batches=MAX_BATCHES).worker


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("wrap", [lambda plan: plan, lambda plan: StepHandlerResult.success(plan, {"n": 1})])
async def test_the_decorators_worker_is_that_of_every_plan(
    plan: str, wrap: Callable[[Any], Any], run: Run
) -> None:
    @batch_analyzer("analyze", worker_template="import_rows")
    async def named() -> Any:
        return wrap(PLANS[plan]())

    @batch_analyzer("analyze", worker_template="import_rows")
    async def own() -> Any:
        return wrap(replace(PLANS[plan](), worker_template="another"))

    @batch_analyzer("analyze")
    async def open_() -> Any:
        return wrap(PLANS[plan]())

    assert worker_of((await run(named)).result) == "import_rows"
    assert worker_of((await run(own)).result) == "another"
    assert worker_of((await run(open_)).result) is None


@pytest.mark.parametrize("body", BODIES)
async def test_an_outcome_that_is_written_out_gets_the_worker_too(body: str, run: Run) -> None:
    said = BODIES[body]()

    @batch_analyzer("analyze", worker_template="import_rows")
    def analyze() -> StepHandlerResult:
        assert isinstance(said, StepHandlerResult)
        return said

    result = (await run(analyze)).result
    assert worker_of(result) == "import_rows"
    assert worker_of(said.result) is None  # the author's own object is left alone
    assert set(result) == set(said.result)


async def test_what_is_no_plan_passes_the_decorator() -> None:
    @batch_analyzer("analyze", worker_template="import_rows")
    def analyze(context: StepContext) -> StepHandlerResult:
        if not context.has_checkpoint():
            return checkpoint_yield({"batch_processing_outcome": 1}, 1)
        return StepHandlerResult.failure("no luck", "bad_luck")

    seen: list[Any] = []
    result = await run_handler(analyze, on_checkpoint=seen.append)
    assert [one["cursor"] for one in seen] == [{"batch_processing_outcome": 1}]
    assert result.error is not None
    assert result.error.error_type == "bad_luck"


async def test_classes_name_the_worker_of_an_empty_batch(run: Run) -> None:
    class Analyze(StepHandler, Batchable):
        handler_name = "analyze"

        def call(self, context: StepContext) -> StepHandlerResult:
            return self.batch_analyzer_success(worker_template_name="import_rows", cursor_configs=[])

        def said(self, context: StepContext) -> StepHandlerResult:
            return self.no_batches_outcome("small", worker_template_name="import_rows")

    for method in ("call", "said"):
        assert worker_of((await run(Analyze, method=method)).result) == "import_rows"


def test_the_limit_is_the_engines() -> None:
    assert BatchLimits().max_batches == MAX_BATCHES == 1000


OVER = [
    (lambda: BatchConfig(1001, 1), 1001),
    (lambda: BatchConfig(20_000, 1), 20_000),
    (lambda: BatchConfig(200_000_000, 1000), 200_000),
    (lambda: BatchConfig(200_000_000), 200_000),
    (lambda: BatchConfig(200_000_000, 1, max_batches=2000), 2000),
    (lambda: StepHandlerResult.success(BatchConfig(200_000_000)), 200_000),
    (lambda: mixin.create_cursor_ranges(200_000, 1), 200_000),
    (lambda: mixin.create_cursor_configs(200_000, 50_000), 50_000),
    (lambda: mixin.batch_analyzer_success(mixin.create_batch_outcome(200_000, 1)), 200_000),
    (lambda: BatchAnalyzerOutcome([CursorConfig("001", 0, 1, 1)] * 1001, 1001), 1001),
    (lambda: mixin.batch_analyzer_success(cursor_configs=[CursorConfig("001", 0, 1, 1)] * 1001), 1001),
]


@styles
@pytest.mark.parametrize(("plan", "count"), OVER)
async def test_too_many_batches_are_refused_before_they_are_made(
    make: Make, plan: Callable[[], Any], count: int
) -> None:
    handler = make(plan)
    tracemalloc.start()
    try:
        result = await run_handler(handler)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("batch_outcome_invalid", False)
    assert f"the plan has {count} batches, and 1000 are the most" in result.error.message
    assert "max_batches=1000" in result.error.message
    assert peak < 10_000_000  # what thousands of ranges would take


async def test_too_many_batches_by_the_templates_size_are_refused() -> None:
    @batch_analyzer("analyze", "import_rows")
    async def analyze() -> BatchConfig:
        return BatchConfig(1_000_000)

    @step_handler("analyze")
    async def wrapped() -> StepHandlerResult:
        return StepHandlerResult.success(BatchConfig(1_000_000))

    for handler in (analyze, wrapped):
        refused = await run_handler(handler, make_context(batch_size=999))
        assert refused.error is not None
        assert refused.error.error_type == "batch_outcome_invalid"
        assert "1002 batches" in refused.error.message
        fits = await run_handler(handler, make_context(batch_size=1000))
        assert fits.result["worker_count"] == 1000


def test_a_plan_of_a_thousand_batches_is_made() -> None:
    assert len(BatchConfig(1000, 1).plan().cursor_configs) == 1000
    assert len(BatchConfig(10**12, 1, max_batches=1000).plan().cursor_configs) == 1000
    # Even ranges may be fewer than were asked for: what counts is how many there are.
    assert len(BatchConfig(1501, 1, max_batches=1001).plan().cursor_configs) == 751
    with pytest.raises(TooManyBatchesError):
        BatchConfig(1001, 1)
