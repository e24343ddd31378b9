"""Batches written as classes: `class LoadRows(StepHandler, Batchable)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from tasker.worker.handlers.aggregation import BatchAggregationScenario, aggregate_worker_results
from tasker.worker.handlers.batch_context import BatchWorkerContext
from tasker.worker.handlers.batch_functions import no_op_result
from tasker.worker.handlers.batches import (
    DEFAULT_BATCH_SIZE,
    EMPTY_DATASET,
    BatchAnalyzerOutcome,
    BatchWorkerOutcome,
    NoBatches,
)
from tasker.worker.handlers.checkpoints import checkpoint_yield
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.cursors import Cursor, CursorConfig, cursor_ranges, even_ranges
from tasker.worker.handlers.results import StepHandlerResult

_Results: TypeAlias = Mapping[str, Any]


class Batchable:
    """What analyzers, workers and aggregators written as classes say and ask; mix it into a `StepHandler`."""

    capability: ClassVar[str] = "batch"

    # Analyzer

    def create_cursor_ranges(
        self, total_items: int, batch_size: int, step_size: int = 1, max_batches: int | None = None
    ) -> list[CursorConfig]:
        """Cut the items into ranges of `batch_size`, larger ones where `max_batches` are too few.

        Raises:
            ValueError: A number makes no sense; names it.
        """
        return cursor_ranges(total_items, batch_size, step_size=step_size, max_batches=max_batches)

    def create_cursor_configs(self, total_items: int, worker_count: int) -> list[CursorConfig]:
        """Cut the items into at most `worker_count` ranges of about the same size.

        Raises:
            ValueError: A number makes no sense; names it.
        """
        return even_ranges(total_items, worker_count)

    def create_batch_outcome(
        self,
        total_items: int,
        batch_size: int | None = None,
        step_size: int = 1,
        batch_metadata: Mapping[str, Any] | None = None,
        *,
        context: StepContext | None = None,
    ) -> BatchAnalyzerOutcome:
        """Return the plan for ranges of `batch_size`, or without one of the size that the template says.

        Args:
            total_items: How many there are.
            batch_size: Items of a range.
            step_size: Passed on to the workers.
            batch_metadata: Stored with the analyzer's result.
            context: Where the template's `batch_config.batch_size` is found; needed without `batch_size`.

        Raises:
            ValueError: A number makes no sense, or there is neither `batch_size` nor `context`; names it.
        """
        if batch_size is None:
            if context is None:
                raise ValueError(
                    "create_batch_outcome needs batch_size, or context=context for the template's batch size"
                )
            batch_size = DEFAULT_BATCH_SIZE if context.batch_size is None else context.batch_size
        ranges = cursor_ranges(total_items, batch_size, step_size=step_size)
        return BatchAnalyzerOutcome(ranges, total_items, batch_metadata=batch_metadata or {})

    def create_batch_outcome_from_ranges(
        self,
        ranges: Sequence[CursorConfig],
        total_items: int | None = None,
        batch_metadata: Mapping[str, Any] | None = None,
    ) -> BatchAnalyzerOutcome:
        """Return the plan for ranges of your own; the total is that of the ranges by default."""
        total = sum(one.batch_size for one in ranges) if total_items is None else total_items
        return BatchAnalyzerOutcome(ranges, total, batch_metadata=batch_metadata or {})

    def batch_analyzer_success(
        self,
        outcome: BatchAnalyzerOutcome | None = None,
        metadata: Mapping[str, Any] | None = None,
        worker_template_name: str | None = None,
        cursor_configs: Sequence[CursorConfig] | None = None,
        total_items: int | None = None,
        batch_metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Report the plan: an outcome, or its parts. Without any ranges there are no batches.

        `worker_template_name` is the `batch_worker` step; by default the template says so.
        """
        if outcome is None:
            outcome = self.create_batch_outcome_from_ranges(cursor_configs or [], total_items, batch_metadata)
        if worker_template_name is not None:
            outcome = outcome.for_worker(worker_template_name)
        return StepHandlerResult.success(outcome.to_json(), metadata)

    def no_batches_outcome(
        self,
        reason: str = EMPTY_DATASET,
        metadata: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
        worker_template_name: str | None = None,
    ) -> StepHandlerResult:
        """Report that nothing is left to do.

        Args:
            reason: Why.
            metadata: The author's notes.
            result: What else dependent steps read.
            worker_template_name: The `batch_worker` step that the aggregator waits for; by default the template
                says so.
        """
        return StepHandlerResult.success(
            NoBatches(reason, result or {}, worker_template_name).to_json(), metadata
        )

    # Worker

    def get_batch_context(self, context: StepContext) -> BatchWorkerContext | None:
        """Return the share of this instance, None if the step is no instance of a batch worker."""
        return BatchWorkerContext.of(context)

    def get_batch_worker_inputs(self, context: StepContext) -> Mapping[str, Any] | None:
        """Return the inputs stored with this instance, None if the step is no instance of a batch worker."""
        return context.step_inputs if context.is_batch_instance else None

    def handle_no_op_worker(
        self, context: StepContext | BatchWorkerContext | None
    ) -> StepHandlerResult | None:
        """Return the result of the placeholder of an empty batch; None for real work, which goes on."""
        batch = BatchWorkerContext.of(context) if isinstance(context, StepContext) else context
        return no_op_result(batch) if batch is not None and batch.is_no_op else None

    def batch_worker_success(
        self,
        outcome: BatchWorkerOutcome | None = None,
        metadata: Mapping[str, Any] | None = None,
        items_processed: int | None = None,
        items_succeeded: int | None = None,
        items_failed: int = 0,
        items_skipped: int = 0,
        results: Sequence[Any] | None = None,
        errors: Sequence[Any] | None = None,
        last_cursor: Cursor | None = None,
        batch_metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Report what this instance did: an outcome, or its parts."""
        if outcome is None:
            if items_processed is None:
                items_processed = (items_succeeded or 0) + items_failed + items_skipped
            outcome = BatchWorkerOutcome(
                items_processed,
                items_succeeded,
                items_failed,
                items_skipped,
                last_cursor,
                results or (),
                errors or (),
                batch_metadata or {},
            )
        return StepHandlerResult.success(outcome.to_json(), metadata)

    def batch_worker_complete(
        self, processed_count: int, metadata: Mapping[str, Any] | None = None, **counts: Any
    ) -> StepHandlerResult:
        """Report what this instance did; another name for `batch_worker_success(items_processed=...)`."""
        return self.batch_worker_success(metadata=metadata, items_processed=processed_count, **counts)

    def batch_worker_partial_failure(
        self, outcome: BatchWorkerOutcome, message: str | None = None
    ) -> StepHandlerResult:
        """Report what this instance did although some items failed; the step succeeds."""
        notes = {"partial_failure": True} | ({} if message is None else {"message": message})
        return self.batch_worker_success(outcome, notes)

    def checkpoint_yield(
        self, cursor: Cursor, items_processed: int, accumulated_results: object = None
    ) -> StepHandlerResult:
        """Return this from `call` to store how far it has come, and to be called again from there.

        Raises:
            ValueError: The cursor is None, or the count negative.
        """
        return checkpoint_yield(cursor, items_processed, accumulated_results)

    # Aggregator

    def detect_aggregation_scenario(
        self, dependency_results: _Results, batchable_step_name: str, batch_worker_prefix: str
    ) -> BatchAggregationScenario:
        """Return what the instances returned, or that there were none.

        Raises:
            ValueError: The analyzer has no result, or instances should have and none has.
        """
        return BatchAggregationScenario.detect(dependency_results, batchable_step_name, batch_worker_prefix)

    def aggregate_batch_worker_results(
        self,
        scenario: BatchAggregationScenario,
        zero_metrics: Mapping[str, Any] | None = None,
        aggregation_fn: Callable[[_Results], Mapping[str, Any]] | None = None,
    ) -> StepHandlerResult:
        """Report the totals, with `worker_count`.

        Args:
            scenario: What there is.
            zero_metrics: The result where there were no batches; zero counts by default.
            aggregation_fn: Makes the totals of the instances' results by step name; adds up their counts by default.
        """
        totals: Mapping[str, Any]
        if scenario.is_no_batches:
            totals = aggregate_worker_results([]) if zero_metrics is None else zero_metrics
        elif aggregation_fn is not None:
            totals = aggregation_fn(scenario.batch_results)
        else:
            totals = aggregate_worker_results(scenario.batch_results.values())
        return StepHandlerResult.success({**totals, "worker_count": scenario.worker_count})

    def aggregate_worker_results(self, results: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
        """Add up the counts of instances; see `tasker.worker.aggregate_worker_results`."""
        return aggregate_worker_results(results)
