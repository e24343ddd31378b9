"""Checking successful results against the schema of their step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tasker.domain.errors import FieldViolation
from tasker.persistence.operations.claim import ClaimedStep
from tasker.telemetry.logs import get_logger
from tasker.worker.handlers.attempts import ResultCheck
from tasker.worker.runtime.revisions import KnownStep

log = get_logger(__name__)

#: What happens to a result that breaks its schema: nothing, a line in the log, or the step fails.
ResultValidation = Literal["off", "warn", "enforce"]


def result_check(mode: ResultValidation, claimed: ClaimedStep, known: KnownStep) -> ResultCheck | None:
    """Return what the results of a step must pass; None if that is nothing."""
    schema = known.result_schema
    if mode == "off" or schema is None:
        return None

    def check(result: Mapping[str, Any]) -> Sequence[FieldViolation]:
        violations = schema.violations(result)
        if mode == "enforce" or not violations:
            return violations
        # The places alone: what is wrong with them quotes the result, which may hold secrets.
        log.warning(
            "result_schema_broken",
            template=known.template.key,
            step_name=claimed.name,
            task_uuid=str(claimed.task_uuid),
            fields=sorted({violation.field for violation in violations}),
        )
        return ()

    return check
