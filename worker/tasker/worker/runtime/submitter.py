"""Results on their way back: everything that waits goes in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeAlias
from uuid import UUID

from tasker.domain.results import ErrorType
from tasker.messaging.pgmq import PgmqWorkerBroker
from tasker.persistence.failures import patiently
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.operations.finish import NextClaims
from tasker.persistence.operations.submit import ResultToSubmit
from tasker.telemetry.logs import get_logger
from tasker.worker.handlers.attempts import WorkerIdentity, given_by_worker
from tasker.worker.handlers.sealing import SealedResult
from tasker.worker.runtime.claims import OpenClaims

log = get_logger(__name__)

_MAX_GROUP: Final = 200
_MAX_WAITING: Final = 1000

_Finished: TypeAlias = tuple[ClaimedStep, ResultToSubmit]


class Continuation(Protocol):
    """Who goes on with the steps that finished ones make ready."""

    def next_claims(self, finished: int) -> AbstractContextManager[NextClaims]:
        """Say what may be claimed of the steps that follow so many finished ones, and keep room for them."""

    def start(self, step: ClaimedStep) -> None:
        """Run a step that was claimed so."""


class ResultSubmitter:
    """Submits results in groups and never drops one: while the database is away it waits and tries again.

    A claim is released when its result is submitted.
    """

    def __init__(self, broker: PgmqWorkerBroker, claims: OpenClaims, identity: WorkerIdentity) -> None:
        self._broker = broker
        self._claims = claims
        self._identity = identity
        self._waiting: list[_Finished] = []
        self._arrived = asyncio.Event()
        self._relieved = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, step: ClaimedStep, result: SealedResult) -> None:
        """Hand in the result of a step."""
        self._waiting.append(_finished(step, result))
        self._idle.clear()
        self._arrived.set()

    async def room(self) -> None:
        """Wait while so many results wait that claiming more steps would only add to them."""
        while len(self._waiting) >= _MAX_WAITING:
            self._relieved.clear()
            await self._relieved.wait()

    async def flush(self) -> None:
        """Wait until every result is submitted."""
        await self._idle.wait()

    async def run(self, continuation: Continuation | None = None) -> None:
        """Submit until cancelled.

        Args:
            continuation: Steps whose task is free are completed at once, and this goes on with what follows. Without
                one an orchestrator completes every step.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                group, self._waiting = self._waiting[:_MAX_GROUP], self._waiting[_MAX_GROUP:]
                await self._submit_together(group, continuation)
                self._relieved.set()
            self._idle.set()

    async def _submit_together(self, group: Sequence[_Finished], continuation: Continuation | None) -> None:
        try:
            await self._submit(group, continuation)
        except Exception as error:
            if len(group) > 1:
                for one in group:
                    await self._submit_together([one], continuation)
            elif continuation is not None:
                # Perhaps it is not the result that fails, but what would follow: that is for orchestration to find.
                log.warning("step_not_completed", step_uuid=str(group[0][0].step_uuid), exc_info=error)
                await self._submit_together(group, None)
            else:
                await self._submit_instead(group[0][0], error)

    async def _submit_instead(self, step: ClaimedStep, error: Exception) -> None:
        """Submit that a result was refused; if that is refused too, the lease runs out and the sweeper takes over."""
        _log_refusal(step, error)
        refusal = given_by_worker(
            step.step_uuid,
            ErrorType.RESULT_SERIALIZATION_ERROR,
            f"PostgreSQL refused the result: {type(error).__name__}",
            retryable=False,
            worker=self._identity,
        )
        try:
            await self._submit([_finished(step, refusal)], None)
        except Exception as again:
            _log_refusal(step, again)
            self._claims.release(step)

    async def _submit(self, group: Sequence[_Finished], continuation: Continuation | None) -> None:
        """Submit some results; while the database is away, wait."""
        results = [result for _, result in group]
        if continuation is None:
            accepted = await patiently(
                lambda: self._broker.submit(results), "submit_interrupted", results=len(results)
            )
        else:
            accepted = await self._finish(results, continuation)
        for step, _ in group:
            self._claims.release(step)
            if step.step_uuid not in accepted:
                log.warning(
                    "result_refused",
                    task_uuid=str(step.task_uuid),
                    step_uuid=str(step.step_uuid),
                    step_name=step.name,
                )

    async def _finish(self, results: Sequence[ResultToSubmit], continuation: Continuation) -> set[UUID]:
        """Submit and complete, go on with what follows, and return the steps whose result was accepted."""
        with continuation.next_claims(len(results)) as claims:
            finished = await patiently(
                lambda: self._broker.finish(results, claims), "submit_interrupted", results=len(results)
            )
            for step in finished.claimed:
                continuation.start(step)
        return finished.accepted


def _finished(step: ClaimedStep, result: SealedResult) -> _Finished:
    return step, ResultToSubmit(step.lease, result.payload, result.result.success)


def _log_refusal(step: ClaimedStep, error: Exception) -> None:
    log.error("result_not_storable", step_uuid=str(step.step_uuid), step_name=step.name, exc_info=error)
