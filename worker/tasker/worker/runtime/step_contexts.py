"""What the handler of a claimed step sees."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any

from tasker.persistence.operations.claim import ClaimedStep
from tasker.worker.handlers.context import StepContext
from tasker.worker.runtime.revisions import KnownStep


def step_context(claimed: ClaimedStep, known: KnownStep, *, deadline: datetime) -> StepContext:
    """Return what a handler sees: the claim, and what the template says about its step.

    The inputs and the checkpoint's cursor are copies, for the claim keeps its own for the next run. The rest is not: a
    claim that runs once more fetches that anew.
    """
    return StepContext(
        task_uuid=claimed.task_uuid,
        step_uuid=claimed.step_uuid,
        correlation_id=claimed.correlation_id,
        namespace=claimed.namespace,
        step_name=claimed.name,
        handler_name=known.step.handler.callable,
        attempt=claimed.attempt,
        max_attempts=claimed.max_attempts,
        input_data=claimed.context or {},
        step_inputs=deepcopy(claimed.inputs),
        dependency_results=claimed.dependencies,
        dependencies=tuple(known.step.dependencies),
        checkpoint=None if claimed.checkpoint is None else _with_own_cursor(claimed.checkpoint),
        deadline=deadline,
        task_name=known.template.name,
        task_version=known.template.version,
        template_step_name=claimed.template_step_name,
        batch_size=known.batch_size,
    )


def _with_own_cursor(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint for a handler, which may move its cursor in place: the step keeps the place it began at."""
    return {key: deepcopy(value) if key == "cursor" else value for key, value in checkpoint.items()}
