"""Handlers of a large dataset: a batch in three classes, and an analyzer that does small ones itself."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasker.worker import Batchable, BatchConfig, StepContext, StepHandler, StepHandlerResult


class AnalyzeDataset(StepHandler, Batchable):
    """Shares the items out, unless they are too few to be worth it.

    "No batches" says that nothing is left to do. It is true only because this class does the work before it says so.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.batch_size: int = config["batch_size"]
        self.max_workers: int = config["max_workers"]

    def call(self, context: StepContext) -> BatchConfig | StepHandlerResult:
        size: int = context.get_input("dataset_size")
        if size < self.batch_size:
            return self.no_batches_outcome("small_dataset", result=transform(range(size)))
        return BatchConfig(size, self.batch_size, max_batches=self.max_workers)


class ProcessRange(StepHandler, Batchable):
    """Transforms the items of one batch."""

    def call(self, context: StepContext) -> Mapping[str, Any] | StepHandlerResult:
        batch = self.get_batch_context(context)
        if batch is None:
            return self.failure("this handler is for batch_worker steps", retryable=False)
        return self.handle_no_op_worker(batch) or transform(range(batch.start_cursor, batch.end_cursor))


class Aggregate(StepHandler, Batchable):
    """Adds up what the workers did, or what the analyzer did itself."""

    def call(self, context: StepContext) -> dict[str, int]:
        batches = self.detect_aggregation_scenario(
            context.dependency_results, "analyze_dataset", "process_batch"
        )
        parts = [batches.batchable_result] if batches.is_no_batches else [*batches.batch_results.values()]
        return {
            "total_processed": sum(part["items_processed"] for part in parts),
            "total_value": sum(part["value"] for part in parts),
            "worker_count": batches.worker_count,
        }


def transform(items: Iterable[int]) -> dict[str, int]:
    """Double the items, which is all that this dataset needs, and tell how many there were and what they come to."""
    doubled = [2 * item for item in items]
    return {"items_processed": len(doubled), "value": sum(doubled)}
