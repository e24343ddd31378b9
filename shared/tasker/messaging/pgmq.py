"""The PGMQ brokers: message and state change in one transaction, one SQL function a group of messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from tasker.messaging.low_water import LowWater
from tasker.persistence.operations.claim import ClaimedStep, claim_steps
from tasker.persistence.operations.finish import FinishedSteps, NextClaims, finish_steps
from tasker.persistence.operations.judge import Judgements, take_judgements
from tasker.persistence.operations.poison import record_poison
from tasker.persistence.operations.process import ProcessedResults, process_results
from tasker.persistence.operations.queues import visible_messages
from tasker.persistence.operations.submit import ResultToSubmit, submit_results
from tasker.persistence.queries import Transaction
from tasker.persistence.sessions import Sessions


class _PgmqBroker:
    """What either side needs in the search for poison."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def visible(self, queue: str, limit: int) -> list[int]:
        """Return the ids of the oldest visible messages."""
        return await visible_messages(self._sessions, queue, limit)

    async def record_poison(self, queue: str, msg_id: int, error: str) -> bool:
        """Take a message that cannot be handled out of its queue; its step, if it is in flight, moves to `error`."""
        return await record_poison(self._sessions, queue, msg_id, error)


class PgmqWorkerBroker(_PgmqBroker):
    """A worker's side: claim and submit. They overlap under load, on two sessions then."""

    def __init__(self, sessions: Sessions, *, worker_uuid: UUID, refusal_limit: timedelta) -> None:
        super().__init__(sessions)
        self._worker_uuid = worker_uuid
        self._refusal_limit = refusal_limit
        self._low_water: defaultdict[str, LowWater] = defaultdict(LowWater)

    async def claim(
        self, queues: Sequence[str], handlers: Sequence[str], limit: int, *, only: int | None = None
    ) -> list[ClaimedStep]:
        """Claim up to `limit` steps; steps whose handler is not among `handlers` go back with a delay.

        `only` limits it to one message, for the search after a poison message.
        """
        try:
            steps = await claim_steps(
                self._sessions,
                queues,
                handlers,
                limit,
                low_waters=[self._low_water[queue].start() for queue in queues],
                worker_uuid=self._worker_uuid,
                refusal_limit=self._refusal_limit,
                only=only,
            )
        except Exception:
            for queue in queues:
                self._low_water[queue].reset()
            raise
        for queue, msg_id in {(step.queue, step.msg_id) for step in steps}:
            self._low_water[queue].saw(msg_id)
        return steps

    async def submit(self, results: Sequence[ResultToSubmit]) -> set[UUID]:
        """Submit results; return the steps whose result was accepted."""
        return await submit_results(self._sessions, results)

    async def finish(self, results: Sequence[ResultToSubmit], claims: NextClaims) -> FinishedSteps:
        """Submit results, complete the plain successes whose task is free, and claim what follows."""
        return await finish_steps(self._sessions, self._worker_uuid, results, claims)


class PgmqOrchestrationBroker(_PgmqBroker):
    """An orchestrator's side: process plain successes, and judge the rest."""

    def __init__(self, sessions: Sessions) -> None:
        super().__init__(sessions)
        self._results_mark = LowWater()
        self._judgements_mark = LowWater()

    async def process_results(self, limit: int, *, only: int | None = None) -> ProcessedResults:
        """Complete the steps of up to `limit` plain successes, or of one message, and advance their tasks."""
        try:
            processed = await process_results(
                self._sessions, limit, low_water=self._results_mark.start(), only=only
            )
        except Exception:
            self._results_mark.reset()
            raise
        self._results_mark.saw(processed.top_msg_id)
        return processed

    @asynccontextmanager
    async def judgements(
        self, limit: int, *, only: int | None = None
    ) -> AsyncIterator[tuple[Transaction, Judgements]]:
        """Take results that need judgement, and lend the transaction in which to apply the verdicts."""
        try:
            async with self._sessions.transaction() as transaction:
                judgements = await take_judgements(
                    transaction, limit, low_water=self._judgements_mark.start(), only=only
                )
                self._judgements_mark.saw(judgements.top_msg_id)
                yield transaction, judgements
        except Exception:
            self._judgements_mark.reset()
            raise
