"""Handlers that fail as a template says, or do nothing: what scenarios of failures run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasker.worker import (
    BatchConfig,
    BatchWorkerContext,
    PermanentError,
    RetryableError,
    StepContext,
    StepHandler,
)


class FailNTimes(StepHandler):
    """Fails its first attempts, `fail_count` of them; then tells which one succeeded."""

    def call(self, context: StepContext) -> dict[str, int]:
        fail_count: int = context.get_config("fail_count")
        if context.attempt <= fail_count:
            raise RetryableError(f"failure {context.attempt} of {fail_count}")
        return {"attempts_before_success": context.attempt}


class FailForGood(StepHandler):
    """Fails so that nobody tries again."""

    def call(self, context: StepContext) -> None:
        raise PermanentError("this never works", error_code="NEVER")


class Echo(StepHandler):
    """Returns the task's context."""

    def call(self, context: StepContext) -> Mapping[str, Any]:
        return context.input_data


class PlanItems(StepHandler):
    """Gives all items to one worker."""

    def call(self, context: StepContext) -> BatchConfig:
        total: int = context.get_config("total_items")
        return BatchConfig(total, total)


class CountItems(StepHandler):
    """Fails its first attempt at an item, and says with the failure how far it had come."""

    def call(self, context: StepContext) -> dict[str, int]:
        batch = BatchWorkerContext.of(context)
        assert batch is not None
        first, fail_at = batch.next_cursor, context.get_config("fail_at")
        if context.attempt == 1:
            raise RetryableError(
                f"failure at item {fail_at}",
                metadata={
                    "checkpoint_progress": fail_at,
                    "processed_before_failure": fail_at - first,
                    "resumed_from": first,
                },
            )
        return {"resumed_from": first, "total_processed": batch.end_cursor - first}
