"""What an instance of a batch worker knows about its share of the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.cursors import CursorConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWorkerContext:
    """One instance's share, and how far an earlier run of it has come.

    Attributes:
        batch_id: Its digits in the step's name: `001` of `load_rows_001`.
        cursor_config: All the analyzer said about this share.
        batch_metadata: What all instances share: `cursor_field` and `failure_strategy` of the template.
        is_no_op: Whether it only stands for the work that there is not; a handler then does nothing.
        total_batches: How many instances there are; None if the analyzer's result does not say.
        checkpoint_cursor: Where the last checkpoint of this instance stopped; None at the start.
        checkpoint_items_processed: How many items were done up to it.
        accumulated_results: What was gathered up to it, or None.
    """

    batch_id: str
    cursor_config: CursorConfig
    batch_metadata: Mapping[str, Any] = field(default_factory=dict)
    is_no_op: bool = False
    total_batches: int | None = None
    checkpoint_cursor: Any = None
    checkpoint_items_processed: int = 0
    accumulated_results: Any = None

    @classmethod
    def of(cls, context: StepContext) -> BatchWorkerContext | None:
        """Return the share of a step, or None if the step is no instance of a batch worker."""
        if not context.is_batch_instance:
            return None
        inputs = context.step_inputs or {}
        config = CursorConfig.from_json(inputs["cursor"])
        return cls(
            batch_id=config.batch_id,
            cursor_config=config,
            batch_metadata=inputs.get("batch_metadata") or {},
            is_no_op=inputs["is_no_op"] is True,
            total_batches=_total_batches(context),
            checkpoint_cursor=context.checkpoint_cursor,
            checkpoint_items_processed=context.checkpoint_items_processed,
            accumulated_results=context.accumulated_results,
        )

    @property
    def start_cursor(self) -> Any:
        """The first item, as JSON has it."""
        return self.cursor_config.start_cursor

    @property
    def end_cursor(self) -> Any:
        """Where the share ends; this one is no longer part of it."""
        return self.cursor_config.end_cursor

    @property
    def batch_size(self) -> int:
        """How many items there are."""
        return self.cursor_config.batch_size

    @property
    def step_size(self) -> int:
        """The distance between two items."""
        return self.cursor_config.step_size

    @property
    def batch_index(self) -> int:
        """Its place among the instances, from 0."""
        return max(0, int(self.batch_id) - 1) if self.batch_id.isdecimal() else 0

    @property
    def next_cursor(self) -> Any:
        """Where to begin: at the checkpoint if there is one, else at the first item."""
        return self.checkpoint_cursor if self.has_checkpoint() else self.start_cursor

    def has_checkpoint(self) -> bool:
        """Return whether an earlier run of this instance left a cursor."""
        return self.checkpoint_cursor is not None


def _total_batches(context: StepContext) -> int | None:
    """Read it from the analyzer, the one direct parent that planned batches."""
    for parent in context.dependencies:
        count = context.get_dependency_field(parent, "batch_processing_outcome", "worker_count")
        if isinstance(count, int):
            return count
    return None
