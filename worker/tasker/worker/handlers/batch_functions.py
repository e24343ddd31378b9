"""Batches written as functions: analyzer, worker and aggregator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from tasker.domain.results import ErrorType
from tasker.worker.handlers.aggregation import BatchAggregationScenario
from tasker.worker.handlers.batch_context import BatchWorkerContext
from tasker.worker.handlers.batches import BatchAnalyzerOutcome, BatchConfig, NoBatches, Plan, addressed
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.errors import HandlerDefinitionError, StepExecutionError
from tasker.worker.handlers.functions import F, Kind, decorator, is_text
from tasker.worker.handlers.injection import Given
from tasker.worker.handlers.markers import Source
from tasker.worker.handlers.results import StepHandlerResult

_Analysis: TypeAlias = Plan | StepHandlerResult
AnalyzerFunction = TypeVar("AnalyzerFunction", bound=Callable[..., _Analysis | Awaitable[_Analysis]])


def batch_analyzer(
    name: str, worker_template: str | None = None, version: str = "1.0.0"
) -> Callable[[AnalyzerFunction], AnalyzerFunction]:
    """Make a function the handler `name` of a batchable step; it returns a `BatchConfig` or `NoBatches`.

    Ranges of your own, over dates or UUIDs for instance, are a `BatchAnalyzerOutcome`. Parameters get their values as
    under `@step_handler`. A function that returns anything else fails its step for good.

    Args:
        name: What templates call it in `handler.callable`.
        worker_template: The `batch_worker` step that gets the batches of every plan that names none itself; by
            default the template says so.
        version: Stored with every result as `metadata.handler_version`.

    Raises:
        HandlerDefinitionError: The function cannot work as a handler; the message says why.
    """

    def finish(value: object) -> object:
        match value:
            case BatchConfig() | NoBatches() | BatchAnalyzerOutcome() | StepHandlerResult():
                return value if worker_template is None else addressed(value, worker_template)
        raise StepExecutionError(
            f"batch analyzer {name!r} returned {type(value).__name__}; return BatchConfig(...) or NoBatches(...)",
            ErrorType.BATCH_OUTCOME_INVALID,
            retryable=False,
        )

    return decorator(Kind("batch_analyzer", finish=finish), name, version)


def batch_worker(name: str, version: str = "1.0.0") -> Callable[[F], F]:
    """Make a function the handler `name` of a batch_worker step.

    Its share of the work is the parameter typed `BatchWorkerContext`, or called `batch_context`. It is called for
    real shares only: the placeholder of an empty batch is answered without it. It may return `checkpoint_yield(...)`
    to store how far it has come.

    Args:
        name: What templates call it in `handler.callable`.
        version: Stored with every result as `metadata.handler_version`.

    Raises:
        HandlerDefinitionError: The function cannot work as a handler; the message says why.
    """
    return decorator(Kind("batch_worker", answer=no_op_answer), name, version)


def no_op_answer(context: StepContext) -> StepHandlerResult | None:
    """Return the result of a placeholder, or None if the step is none."""
    batch = BatchWorkerContext.of(context)
    return no_op_result(batch) if batch is not None and batch.is_no_op else None


def no_op_result(batch: BatchWorkerContext) -> StepHandlerResult:
    """Return what a placeholder reports."""
    return StepHandlerResult.success({"no_op": True, "batch_id": batch.batch_id, "processed_count": 0})


def batch_aggregator(name: str, *, analyzer: str, workers: str, version: str = "1.0.0") -> Callable[[F], F]:
    """Make a function the handler `name` of the step that puts the results of a batch together.

    What the instances returned is the parameter typed `BatchAggregationScenario`, or called `batches`.

    Args:
        name: What templates call it in `handler.callable`.
        analyzer: Name of the batchable step.
        workers: Name of the batch_worker step, or how the names of its instances begin.
        version: Stored with every result as `metadata.handler_version`.

    Raises:
        HandlerDefinitionError: The function cannot work as a handler; the message says why.
    """
    if not (is_text(analyzer) and is_text(workers)):
        raise HandlerDefinitionError(
            f"handler {name!r}: @batch_aggregator needs the names of the batchable step and of its batch_worker"
        )

    def find(context: StepContext) -> BatchAggregationScenario:
        return BatchAggregationScenario.detect(context.dependency_results, analyzer, workers)

    given = Given(Source.BATCHES, BatchAggregationScenario, ("batches",), find)
    return decorator(Kind("batch_aggregator", given=[given]), name, version)
