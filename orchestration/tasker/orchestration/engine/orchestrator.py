"""An orchestrator: everything between its database and its clients, started and drained in order."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from tasker.config.settings import OrchestrationSettings
from tasker.messaging.pgmq import JUDGEMENTS_QUEUE, RESULTS_QUEUE, PgmqOrchestrationBroker, channel
from tasker.orchestration.engine.catalogue import TemplateCatalogue
from tasker.orchestration.engine.creation import TaskCreator
from tasker.orchestration.engine.judging import Judge
from tasker.orchestration.engine.operators import Operators
from tasker.orchestration.engine.watching import Watching
from tasker.orchestration.loops.judgements import JudgementLoop
from tasker.orchestration.loops.leases import LeaseSweeper
from tasker.orchestration.loops.reconciler import Reconciler
from tasker.orchestration.loops.results import ResultLoop
from tasker.orchestration.loops.runner import LoopRunner
from tasker.orchestration.loops.timers import TimerLoop
from tasker.persistence.database import Database
from tasker.persistence.listener import Listener
from tasker.persistence.migrations import check_schema
from tasker.persistence.tasks import TaskReader
from tasker.persistence.templates import TEMPLATE_CHANGED_CHANNEL, TemplateStore

log = structlog.get_logger(__name__)

_TIMER_CHANNEL: Final = "tasker_timer"
_TRANSITIONS_CHANNEL: Final = "tasker_transitions"


class Orchestrator:
    """Any number may run on one database; none is special.

    Attributes:
        database: Its connections.
        creator: Creates tasks.
        reader: Reads them.
        operators: Acts on them by hand.
        watching: Follows them.
    """

    def __init__(self, settings: OrchestrationSettings) -> None:
        self._settings = settings
        self.database = Database(
            settings.database_url.get_secret_value(), application_name="tasker-orchestration"
        )
        self._broker = PgmqOrchestrationBroker(self.database)
        self._catalogue = TemplateCatalogue(
            TemplateStore(self.database),
            environment=settings.environment,
            input_validation=settings.input_validation,
        )
        self.reader = TaskReader(self.database)
        self.creator = TaskCreator(
            self._catalogue, self._broker, self.reader, environment=settings.environment
        )
        self.operators = Operators(self._broker)
        self._listener = Listener(self.database.url_parameters)
        self.watching = Watching(self.reader, self._listener.subscribe(_TRANSITIONS_CHANNEL))
        self._runners = (
            LoopRunner(ResultLoop(self._broker), self._listener.subscribe(channel(RESULTS_QUEUE))),
            LoopRunner(
                JudgementLoop(self._broker, Judge()), self._listener.subscribe(channel(JUDGEMENTS_QUEUE))
            ),
            LoopRunner(TimerLoop(self._broker), self._listener.subscribe(_TIMER_CHANNEL)),
            LoopRunner(LeaseSweeper(self._broker)),
            LoopRunner(Reconciler(self._broker)),
        )
        self._templates_changed = self._listener.subscribe(TEMPLATE_CHANGED_CHANNEL)
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and begin to work.

        Raises:
            psycopg.OperationalError: The database does not answer.
            SchemaVersionError: Its schema does not fit.
        """
        await self.database.open()
        await check_schema(self.database)
        await self._listener.start()
        await self.watching.start()
        await self.creator.start()
        self._following = asyncio.create_task(self._follow_templates(), name="templates")
        for runner in self._runners:
            runner.start()

    async def stop(self) -> None:
        """Finish the batches at hand and disconnect."""
        await self.creator.stop()
        await self.watching.stop()
        for runner in self._runners:
            await runner.stop()
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        await self._listener.stop()
        await self._broker.close()
        await self.database.close()

    @property
    def is_listening(self) -> bool:
        """Whether hints arrive; without them the orchestrator polls."""
        return self._listener.is_connected

    @property
    def failing_loops(self) -> list[str]:
        """The background loops whose last tick failed."""
        return [runner.name for runner in self._runners if runner.failures]

    async def queue_depth(self) -> int:
        """Return how many submitted results wait, at most 10,000 of each kind counted."""
        return sum(
            [len(await self._broker.visible(queue, 10_000)) for queue in (RESULTS_QUEUE, JUDGEMENTS_QUEUE)]
        )

    async def _follow_templates(self) -> None:
        while True:
            await self._templates_changed.wait(None)
            self._catalogue.forget()
