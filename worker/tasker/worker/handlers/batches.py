"""What the steps of a batch report: the analyzer its plan, each worker its counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from tasker.worker.handlers.cursors import (
    Cursor,
    CursorConfig,
    check_count,
    check_figures,
    planned_ranges,
    planned_size,
)
from tasker.worker.handlers.results import Outcome, StepHandlerResult

#: The reason that is given where nobody gave one: there was nothing to do.
EMPTY_DATASET: Final = "empty_dataset"

#: Items of a batch where neither the handler nor the template says.
DEFAULT_BATCH_SIZE: Final = 1000


@dataclass(frozen=True, slots=True)
class NoBatches(Outcome):
    """The analyzer's word that nothing is left to do; the aggregator runs all the same.

    Attributes:
        reason: Why.
        result: What else dependent steps read from the analyzer, such as work that it did itself.
        worker_template: The `batch_worker` step that the aggregator waits for; None leaves it to the template.
    """

    reason: str = EMPTY_DATASET
    result: Mapping[str, Any] = field(default_factory=dict)
    worker_template: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result of the analyzer."""
        return dict(self.result) | {
            "batch_processing_outcome": {"type": "no_batches", **_named(self.worker_template)},
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class BatchAnalyzerOutcome(Outcome):
    """The analyzer's plan: one instance of the worker for each cursor.

    Attributes:
        cursor_configs: The instances; without any there are no batches.
        total_items: Items of all instances together.
        worker_template: The `batch_worker` step; None leaves it to the template.
        batch_metadata: Stored with the analyzer's result.
        result: What else dependent steps read from the analyzer.

    Raises:
        TooManyBatchesError: The engine makes fewer instances.
    """

    cursor_configs: Sequence[CursorConfig]
    total_items: int
    worker_template: str | None = None
    batch_metadata: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_count(len(self.cursor_configs))

    def for_worker(self, worker_template: str | None) -> BatchAnalyzerOutcome:
        """Return the same plan for another worker."""
        return replace(self, worker_template=worker_template)

    def to_json(self) -> dict[str, Any]:
        """Return the result of the analyzer."""
        if not self.cursor_configs:
            notes = {"batch_metadata": dict(self.batch_metadata)} if self.batch_metadata else {}
            nothing = NoBatches(result={**self.result, **notes}, worker_template=self.worker_template)
            return nothing.to_json()
        count = len(self.cursor_configs)
        return dict(self.result) | {
            "batch_processing_outcome": {
                "type": "create_batches",
                **_named(self.worker_template),
                "worker_count": count,
                "cursor_configs": [config.to_json() for config in self.cursor_configs],
                "total_items": self.total_items,
            },
            "worker_count": count,
            "total_items": self.total_items,
            "batch_metadata": dict(self.batch_metadata),
        }


@dataclass(frozen=True, slots=True)
class BatchConfig(Outcome):
    """The analyzer's plan in figures: the items are cut into even ranges of at most `batch_size`.

    `max_batches` comes first: with more items than that many batches hold, the batches are larger. No items are no
    batches.

    Attributes:
        total_items: How many items there are.
        batch_size: The most items of one instance; None takes the template's `batch_config.batch_size`, or 1000
            without one.
        metadata: Stored with the analyzer's result.
        max_batches: The most instances.
        first_cursor: The cursor of the first item, such as 1 where rows are counted from 1.
        worker_template: The `batch_worker` step; None leaves it to the template.

    Raises:
        TypeError: Something is no whole number, or `metadata` no mapping; names it.
        ValueError: A number makes no sense; names it.
        TooManyBatchesError: The engine makes fewer batches.
    """

    total_items: int
    batch_size: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    max_batches: int | None = None
    first_cursor: int = 0
    worker_template: str | None = None

    def __post_init__(self) -> None:
        # What makes no sense is said at once, where the author's line is; the ranges are cut when they are stored.
        check_figures(
            self.total_items, self.first_cursor, batch_size=self.batch_size, max_batches=self.max_batches
        )
        if not isinstance(self.metadata, Mapping):
            raise TypeError(f"metadata must be a mapping, and is of type {type(self.metadata).__name__}")
        if self.batch_size is not None:
            planned_size(self.total_items, self.batch_size, self.max_batches)

    def plan(self) -> BatchAnalyzerOutcome:
        """Return the ranges."""
        ranges = planned_ranges(
            self.total_items,
            DEFAULT_BATCH_SIZE if self.batch_size is None else self.batch_size,
            max_batches=self.max_batches,
            first_cursor=self.first_cursor,
        )
        return BatchAnalyzerOutcome(ranges, self.total_items, self.worker_template, self.metadata)

    def to_json(self) -> dict[str, Any]:
        """Return the result of the analyzer."""
        return self.plan().to_json()


#: What an analyzer may return.
Plan: TypeAlias = BatchConfig | NoBatches | BatchAnalyzerOutcome


def sized(value: object, batch_size: int | None) -> object:
    """Return what a handler returned, with the template's batch size in a plan that leaves it open.

    Handlers return a plan without knowing their template, so it is put in afterwards, in whatever style they are
    written and also inside a `StepHandlerResult`.

    Raises:
        TooManyBatchesError: The engine makes fewer batches than the plan then has.
    """
    match value:
        case BatchConfig(batch_size=None):
            return replace(value, batch_size=DEFAULT_BATCH_SIZE if batch_size is None else batch_size)
        case StepHandlerResult(result=BatchConfig(batch_size=None) as config):
            return replace(value, result=sized(config, batch_size))
    return value


def addressed(value: object, worker_template: str) -> object:
    """Return what an analyzer returned, with the worker in a plan that names none, also in a `StepHandlerResult`."""
    match value:
        case BatchConfig() | NoBatches() | BatchAnalyzerOutcome() if value.worker_template is None:
            return replace(value, worker_template=worker_template)
        case StepHandlerResult(result=BatchConfig() | NoBatches() | BatchAnalyzerOutcome() as plan):
            return replace(value, result=addressed(plan, worker_template))
        case StepHandlerResult(result={"batch_processing_outcome": {"type": _} as outcome, **others}):
            # As a method of `Batchable` returns it, or written by hand.
            if outcome.get("worker_template_name") is None:
                named = {**outcome, "worker_template_name": worker_template}
                return replace(value, result={**others, "batch_processing_outcome": named})
    return value


def _named(worker_template: str | None) -> dict[str, str]:
    return {} if worker_template is None else {"worker_template_name": worker_template}


@dataclass(frozen=True, slots=True)
class BatchWorkerOutcome(Outcome):
    """What one instance did.

    Attributes:
        items_processed: Items looked at.
        items_succeeded: Those that went well; all that did not fail and were not skipped by default.
        items_failed: Those that did not.
        items_skipped: Those left out on purpose.
        last_cursor: Where it ended.
        results: What came of the items, if anybody wants it.
        errors: What went wrong with items.
        batch_metadata: Notes, stored with the result.
    """

    items_processed: int
    items_succeeded: int | None = None
    items_failed: int = 0
    items_skipped: int = 0
    last_cursor: Cursor | None = None
    results: Sequence[Any] = ()
    errors: Sequence[Any] = ()
    batch_metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the result of the instance."""
        succeeded = self.items_succeeded
        if succeeded is None:
            succeeded = max(0, self.items_processed - self.items_failed - self.items_skipped)
        return {
            "items_processed": self.items_processed,
            "items_succeeded": succeeded,
            "items_failed": self.items_failed,
            "items_skipped": self.items_skipped,
            "last_cursor": self.last_cursor,
            "batch_metadata": dict(self.batch_metadata),
            "results": list(self.results),
            "errors": list(self.errors),
        }
