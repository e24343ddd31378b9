"""Finished steps on their way back: everything that waits goes in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from tasker.domain.results import ErrorType
from tasker.messaging.pgmq import PgmqWorkerBroker
from tasker.messaging.records import ClaimedStep
from tasker.persistence.database import patiently
from tasker.worker.handlers.attempts import WorkerIdentity, given_by_worker
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.sealing import SealedResult

log = structlog.get_logger(__name__)

_MAX_BATCH: Final = 200
_MAX_WAITING: Final = 1000


class ResultSubmitter:
    """Submits results in batches and never drops one: while the database is away it waits and tries again.

    Attributes:
        held: The newest claims whose result is not submitted yet, by step.
    """

    def __init__(self, broker: PgmqWorkerBroker, identity: WorkerIdentity) -> None:
        self._broker = broker
        self._identity = identity
        self._waiting: list[tuple[ClaimedStep, str]] = []
        self._arrived = asyncio.Event()
        self._relieved = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.held: dict[UUID, ClaimedStep] = {}

    def put(self, step: ClaimedStep, result: SealedResult) -> None:
        """Hand in the result of a step."""
        self._waiting.append((step, _payload(step, result)))
        self._idle.clear()
        self._arrived.set()

    def release(self, step: ClaimedStep) -> None:
        """Hold a claim no more; a newer one of the same step stays."""
        if self.held.get(step.step_uuid) is step:
            del self.held[step.step_uuid]

    async def room(self) -> None:
        """Wait while so many results wait that claiming more steps would only add to them."""
        while len(self._waiting) >= _MAX_WAITING:
            self._relieved.clear()
            await self._relieved.wait()

    async def flush(self) -> None:
        """Wait until every result is submitted."""
        await self._idle.wait()

    async def run(self) -> None:
        """Submit until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                await self._submit(batch)
                self._relieved.set()
            self._idle.set()

    async def _submit(self, batch: list[tuple[ClaimedStep, str]], *, instead: bool = False) -> None:
        payloads = [payload for _, payload in batch]
        try:
            accepted = await patiently(
                lambda: self._broker.submit(payloads), "submit_interrupted", results=len(batch)
            )
        except Exception as error:
            await self._submit_singly(batch, error, instead=instead)
            return
        for step, _ in batch:
            self.release(step)
            if step.step_uuid not in accepted:
                log.warning(
                    "result_refused",
                    task_uuid=str(step.task_uuid),
                    step_uuid=str(step.step_uuid),
                    step_name=step.name,
                )

    async def _submit_singly(
        self, batch: list[tuple[ClaimedStep, str]], error: Exception, *, instead: bool
    ) -> None:
        if len(batch) > 1:
            for one in batch:
                await self._submit([one])
            return
        ((step, _),) = batch
        log.error("result_not_storable", step_uuid=str(step.step_uuid), step_name=step.name, exc_info=error)
        if instead:
            self.release(step)  # the lease runs out and the sweeper takes over
            return
        refusal = given_by_worker(
            step.step_uuid,
            ErrorType.RESULT_SERIALIZATION_ERROR,
            f"PostgreSQL refused the result: {type(error).__name__}",
            retryable=False,
            worker=self._identity,
        )
        await self._submit([(step, _payload(step, refusal))], instead=True)


def step_context(
    step: ClaimedStep,
    *,
    task_name: str = "",
    task_version: str = "",
    dependencies: Sequence[str] = (),
    deadline: datetime | None = None,
    batch_size: int | None = None,
) -> StepContext:
    """Return what the handler of a claimed step sees."""
    return StepContext(
        task_uuid=step.task_uuid,
        step_uuid=step.step_uuid,
        correlation_id=step.correlation_id,
        namespace=step.namespace,
        step_name=step.name,
        handler_name=step.handler,
        attempt=step.attempt,
        max_attempts=step.max_attempts,
        input_data=step.context or {},
        step_inputs=deepcopy(step.inputs),
        dependency_results=step.dependencies,
        dependencies=tuple(dependencies),
        checkpoint=None if step.checkpoint is None else _with_own_cursor(step.checkpoint),
        deadline=deadline,
        task_name=task_name,
        task_version=task_version,
        template_step_name=step.template_step_name,
        batch_size=batch_size,
    )


def _with_own_cursor(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint for a handler, which may move its cursor in place: the step keeps the place it began at."""
    return {key: deepcopy(value) if key == "cursor" else value for key, value in checkpoint.items()}


def _payload(step: ClaimedStep, result: SealedResult) -> str:
    """Return the object that submit_results_v1 reads: its own JSON text with the lease put in."""
    return f'{result.payload[:-1]},"task_uuid":"{step.task_uuid}","lease_token":"{step.lease_token}"}}'
