"""Handlers of a long batch that says now and then how far it has come, and goes on from there after a failure.

Item `i` is worth `i + 1`. `fail_after_items` makes the worker fail when so many are done, as a network would.
"""

from typing import Annotated

from pydantic import BaseModel

from tasker.worker import (
    BatchAggregationScenario,
    BatchConfig,
    BatchWorkerContext,
    Inputs,
    PermanentError,
    RetryableError,
    StepContext,
    StepHandlerResult,
    batch_aggregator,
    batch_analyzer,
    batch_worker,
    checkpoint_yield,
)


class Plan(BaseModel):
    """What the task was created with."""

    total_items: int = 100
    items_per_checkpoint: int = 25
    fail_after_items: int | None = None
    fail_on_attempt: int = 1
    permanent_failure: bool = False

    def fails(self, attempt: int, done: int) -> bool:
        """Return whether the worker is to fail in this attempt, with so many items done."""
        return done == self.fail_after_items and (self.permanent_failure or attempt == self.fail_on_attempt)


class SoFar(BaseModel):
    """What is stored with each checkpoint, so that nothing has to be added up again."""

    running_total: int = 0
    yields: int = 0


class Processed(BaseModel):
    items_processed: int
    running_total: int
    batch_metadata: dict[str, int]


class Totals(BaseModel):
    total_processed: int
    running_total: int


ThePlan = Annotated[Plan, Inputs()]


@batch_analyzer("examples.checkpoints.analyze_items")
def analyze_items(plan: ThePlan) -> BatchConfig:
    """Gives everything to one worker: this example is about how far that one comes."""
    return BatchConfig(plan.total_items, batch_size=100, max_batches=1)


@batch_worker("examples.checkpoints.process_items")
def process_items(
    plan: ThePlan, batch: BatchWorkerContext, context: StepContext
) -> Processed | StepHandlerResult:
    """Does the items up to the next checkpoint; the worker calls it again until it returns a result.

    A failed attempt loses what came after its last checkpoint, and only that: the next one has the total of that
    checkpoint and begins with the item behind it.
    """
    so_far = SoFar.model_validate(batch.accumulated_results or {})
    pause = min(batch.next_cursor + plan.items_per_checkpoint, batch.end_cursor)
    for item in range(batch.next_cursor, pause):
        if plan.fails(context.attempt, done=item):
            error = PermanentError if plan.permanent_failure else RetryableError
            raise error(f"told to fail after {item} items")
        so_far.running_total += item + 1
    if pause < batch.end_cursor:
        so_far.yields += 1
        return checkpoint_yield(pause, pause - batch.start_cursor, accumulated_results=so_far)
    return Processed(
        items_processed=batch.batch_size,
        running_total=so_far.running_total,
        batch_metadata={"yields": so_far.yields},
    )


@batch_aggregator(
    "examples.checkpoints.aggregate", analyzer="analyze_items", workers="checkpoint_yield_batch"
)
def aggregate(batches: BatchAggregationScenario) -> Totals:
    parts = batches.results_as(Processed)
    return Totals(
        total_processed=sum(part.items_processed for part in parts),
        running_total=sum(part.running_total for part in parts),
    )
