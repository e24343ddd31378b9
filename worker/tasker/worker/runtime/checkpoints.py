"""Storing the checkpoints of running steps."""

from __future__ import annotations

from tasker.persistence.failures import patiently
from tasker.persistence.operations.checkpoint import checkpoint_step
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.queries import Queries
from tasker.telemetry.logs import get_logger
from tasker.worker.handlers.attempts import Yielded
from tasker.worker.handlers.sealing import SealedResult

log = get_logger(__name__)


class LeaseLostError(Exception):
    """The step belongs to somebody else by now."""


async def store_checkpoint(queries: Queries, step: ClaimedStep, yielded: Yielded) -> SealedResult | None:
    """Store a checkpoint and put it into the step, for its next run; while the database is away, wait.

    The next run is given everything anew, since the one that ended may have changed in place what it was given.

    Returns:
        None, or the step's result if the checkpoint is no further than the last one, or PostgreSQL refuses it.

    Raises:
        LeaseLostError: The lease is lost: nothing is stored, and the step must not run on.
    """
    if (stalled := yielded.stalled(step.checkpoint)) is not None:
        return stalled
    try:
        stored = await patiently(
            lambda: checkpoint_step(queries, step.lease, yielded.checkpoint), "checkpoint_interrupted"
        )
    except Exception as error:
        log.exception("checkpoint_not_storable", step_uuid=str(step.step_uuid), step_name=step.name)
        return yielded.refused(f"PostgreSQL refused it: {type(error).__name__}")
    if stored is None:
        raise LeaseLostError
    step.checkpoint = stored
    step.hydrated = False
    return None
