"""Both services on one database, moved by hand instead of in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tasker.config.settings import WorkerSettings
from tasker.domain.templates.document import Template
from tasker.domain.templates.expansion import DecisionLimits
from tasker.domain.uuids import uuid7
from tasker.messaging.claim_order import ClaimOrder
from tasker.messaging.pgmq import PgmqOrchestrationBroker, PgmqWorkerBroker
from tasker.orchestration.engine.catalogue import TemplateCatalogue
from tasker.orchestration.engine.creation import NewTask, TaskCreator
from tasker.orchestration.engine.expansion import BatchLimits, Expander
from tasker.orchestration.engine.judge import Judge
from tasker.orchestration.engine.revisions import PlannedRevisions
from tasker.orchestration.loops.judgements import JudgementLoop
from tasker.orchestration.loops.results import ResultLoop
from tasker.persistence.database import Database
from tasker.persistence.operations.register import register_template
from tasker.persistence.operations.timers import fire_timers
from tasker.persistence.reading.tasks import TaskReader
from tasker.persistence.scratch import MOVE_CLOCK
from tasker.worker.handlers.attempts import WorkerIdentity
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.runtime.claims import OpenClaims
from tasker.worker.runtime.revisions import known_revisions
from tasker.worker.runtime.running import StepRunner
from tasker.worker.runtime.slots import Slots
from tasker.worker.runtime.submitter import ResultSubmitter

#: What a worker has by default.
_SLOTS: Final = 100
#: Tasks whose timer is due that one call looks at.
_TIMERS: Final = 100


class Connections:
    """What outlives the tests of a run: a new session would compile and plan all functions of the engine anew."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, application_name="tasker-testing", max_size=4)
        self.sessions = self.database.sessions()

    async def open(self) -> None:
        """Connect."""
        await self.database.open()

    async def close(self) -> None:
        """Disconnect."""
        await self.sessions.close()
        await self.database.close()


class Driver:
    """Does what orchestration and a worker would do, when it is told to. Retries have no jitter."""

    def __init__(self, connections: Connections, registry: HandlerRegistry, *, environment: str) -> None:
        self.reader = TaskReader(connections.database)
        self._database = connections.database
        self._sessions = connections.sessions
        self._registry = registry
        self._namespaces: list[str] = []
        self._orchestrate(environment)
        self._work()

    def _orchestrate(self, environment: str) -> None:
        broker = PgmqOrchestrationBroker(self._sessions)
        revisions = PlannedRevisions(self._database, environment)
        self._catalogue = TemplateCatalogue(self._database, revisions.of())
        self._creator = TaskCreator(self._catalogue, self._sessions, self.reader, environment=environment)
        expander = Expander(revisions, decisions=DecisionLimits(), batches=BatchLimits())
        self._results = ResultLoop(broker)
        self._judgements = JudgementLoop(broker, Judge(lambda: 0.0), expander)

    def _work(self) -> None:
        defaults = WorkerSettings.model_fields
        worker_uuid = uuid7()
        identity = WorkerIdentity(f"worker_{worker_uuid}", "testing")
        self._broker = PgmqWorkerBroker(
            self._sessions, worker_uuid=worker_uuid, refusal_limit=timedelta(seconds=60)
        )
        claims = OpenClaims()
        self._submitter = ResultSubmitter(self._broker, claims, identity)
        self._runner = StepRunner(
            self._sessions,
            self._registry,
            known_revisions(self._database),
            claims,
            self._submitter,
            slots=Slots(_SLOTS),
            handler_timeout_seconds=defaults["handler_timeout_seconds"].default,
            result_validation=defaults["result_validation"].default,
            identity=identity,
        )

    async def start(self) -> None:
        """Begin to accept tasks and results."""
        await self._creator.start()
        self._submissions = asyncio.create_task(self._submitter.run(), name="submissions")

    async def stop(self) -> None:
        """End what was begun."""
        self._runner.close()
        self._submissions.cancel()
        await asyncio.wait([self._submissions])
        await self._creator.stop()

    async def register(self, templates: Sequence[Template]) -> None:
        """Register templates, and work for their namespaces from now on."""
        for template in templates:
            await register_template(self._database, template)
        self._namespaces = sorted({*self._namespaces, *(one.namespace_name for one in templates)})
        self._catalogue.forget()

    async def create(self, request: NewTask) -> UUID:
        """Create a task; nothing of it runs yet."""
        return (await self._creator.create(request)).task.task_uuid

    async def settle(self) -> None:
        """Do all that can be done at this time."""
        while True:
            await fire_timers(self._sessions, _TIMERS)
            if not await self._run_steps():
                return
            while await self._results.tick() == 0:
                pass
            while await self._judgements.tick() == 0:
                pass

    async def next_due(self) -> timedelta | None:
        """Tell in how long the next task must be looked at; None if none must be."""
        seconds = (await fire_timers(self._sessions, _TIMERS)).next_due_seconds
        return None if seconds is None else timedelta(seconds=seconds)

    async def move_clock(self, by: timedelta) -> None:
        """Move the engine's clock."""
        await self._database.execute(MOVE_CLOCK, (by.total_seconds(),))

    async def now(self) -> datetime:
        """Return the time by the engine's clock."""
        now: datetime = await self._database.fetch_value("SELECT tasker.now()")
        return now

    async def _run_steps(self) -> int:
        """Run the steps that are enqueued, side by side, to their results; return how many."""
        if not self._namespaces:
            return 0
        queues = ClaimOrder(self._namespaces).queues()
        steps = await self._broker.claim(queues, self._registry.offers(), _SLOTS)
        for step in steps:
            self._runner.start(step)
        await self._runner.finish()
        await self._submitter.flush()
        return len(steps)
