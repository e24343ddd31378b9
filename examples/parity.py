"""Handlers of everything at once: a fork, a join that decides, and a batch behind the branch that was chosen.

The template has two batches that differ in their configuration only, so the classes read from it whose numbers to take.
"""

from collections.abc import Mapping
from typing import Any, Final

from tasker.worker import (
    Batchable,
    BatchConfig,
    ConfigurationError,
    DecisionMixin,
    StepContext,
    StepHandler,
    StepHandlerResult,
)

#: What is left of a number divided by two.
REMAINDERS: Final = {"even": 0, "odd": 1}


class Start(StepHandler):
    """Hands the task's numbers on."""

    def call(self, context: StepContext) -> dict[str, Any]:
        return {"numbers": context.get_input("numbers")}


class Filter(StepHandler):
    """Keeps the even numbers, or the odd ones."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        parity = config["parity"]
        if parity not in REMAINDERS:
            raise ConfigurationError(f"initialization.parity must be even or odd, got {parity!r}")
        self.remainder = REMAINDERS[parity]

    def call(self, context: StepContext) -> dict[str, Any]:
        numbers = numbers_of(context, "ddb_diamond_start")
        return {"numbers": [number for number in numbers if number % 2 == self.remainder]}


class RouteByMajority(StepHandler, DecisionMixin):
    """Follows the larger half; of two equal ones, the even."""

    def call(self, context: StepContext) -> StepHandlerResult:
        evens, odds = (len(numbers_of(context, branch)) for branch in ("branch_evens", "branch_odds"))
        analyzer = "even_batch_analyzer" if evens >= odds else "odd_batch_analyzer"
        return self.decision_success([analyzer], {"evens": evens, "odds": odds})


class AnalyzeNumbers(StepHandler, Batchable):
    """Shares out the numbers of a branch, a few to each worker."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.source: str = config["source"]
        self.batch_size: int = config["batch_size"]
        self.max_workers: int = config["max_workers"]

    def call(self, context: StepContext) -> BatchConfig:
        count = len(numbers_of(context, self.source))
        return BatchConfig(count, self.batch_size, max_batches=self.max_workers)


class SumRange(StepHandler, Batchable):
    """Adds up its share of the branch's numbers, which it finds in the result of an earlier step."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.source: str = config["source"]

    def call(self, context: StepContext) -> dict[str, Any] | StepHandlerResult:
        batch = self.get_batch_context(context)
        if batch is None:
            return self.failure("this handler is for batch_worker steps", retryable=False)
        share = numbers_of(context, self.source)[batch.start_cursor : batch.end_cursor]
        return self.handle_no_op_worker(batch) or {"sum": sum(share), "count": len(share)}


class AggregateSums(StepHandler, Batchable):
    """Adds up the sums."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.analyzer: str = config["analyzer"]
        self.workers: str = config["workers"]

    def call(self, context: StepContext) -> dict[str, int]:
        batches = self.detect_aggregation_scenario(context.dependency_results, self.analyzer, self.workers)
        total = sum(part["sum"] for part in batches.batch_results.values())
        count = batches.worker_count
        return {"total_sum": total, "batch_count": count, "average": total // count if count else 0}


def numbers_of(context: StepContext, step: str) -> list[int]:
    """Return the numbers that a step found."""
    numbers: list[int] = context.get_dependency_field(step, "numbers")
    return numbers
