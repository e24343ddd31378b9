"""Handlers that fail as a template says, or do nothing: what scenarios of failures run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasker.worker import PermanentError, RetryableError, StepContext, StepHandler


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
