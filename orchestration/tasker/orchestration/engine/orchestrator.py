"""An orchestrator: everything between its database and its clients, started and drained in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

import structlog

from tasker.config.settings import OrchestrationSettings
from tasker.domain.templates.document import StepType
from tasker.domain.templates.expansion import DecisionLimits
from tasker.messaging.pgmq import JUDGEMENTS_QUEUE, RESULTS_QUEUE, PgmqOrchestrationBroker, channel
from tasker.orchestration.engine.catalogue import TemplateCatalogue
from tasker.orchestration.engine.creation import TaskCreator
from tasker.orchestration.engine.dlq import DlqEntries
from tasker.orchestration.engine.expansion import BatchLimits, Expander
from tasker.orchestration.engine.judging import Judge
from tasker.orchestration.engine.operators import Operators
from tasker.orchestration.engine.revisions import Revisions
from tasker.orchestration.engine.watching import Watching
from tasker.orchestration.loops.judgements import JudgementLoop
from tasker.orchestration.loops.leases import LeaseSweeper
from tasker.orchestration.loops.reconciler import Reconciler
from tasker.orchestration.loops.results import ResultLoop
from tasker.orchestration.loops.retention import Retention
from tasker.orchestration.loops.runner import LoopRunner
from tasker.orchestration.loops.staleness import DetectionRules, StalenessDetector
from tasker.orchestration.loops.standing import GiveUpLoop, UnservedLoop
from tasker.orchestration.loops.timers import TimerLoop
from tasker.persistence.database import Database
from tasker.persistence.listener import Listener
from tasker.persistence.migrations import check_schema
from tasker.persistence.operations.register import TEMPLATE_CHANGED_CHANNEL
from tasker.persistence.reading.tasks import TaskReader
from tasker.persistence.reading.transitions import TransitionReader
from tasker.persistence.staleness import StandingTasks

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
        dlq: Puts them before a person, and keeps what that person finds.
        watching: Watches them.
    """

    def __init__(self, settings: OrchestrationSettings) -> None:
        self._settings = settings
        self.database = Database(
            settings.database_url.get_secret_value(),
            application_name="tasker-orchestration",
            session_settings=_session_settings(settings),
        )
        self._broker = PgmqOrchestrationBroker(self.database)
        self._catalogue = TemplateCatalogue(
            self.database,
            environment=settings.environment,
            input_validation=settings.input_validation,
        )
        self.reader = TaskReader(self.database)
        self.creator = TaskCreator(
            self._catalogue,
            self._broker,
            self.reader,
            environment=settings.environment,
            disabled=_disabled(settings),
        )
        expander = _expander(settings, self.database)
        self.operators = Operators(self._broker, expander)
        self.dlq = DlqEntries(self.database)
        self._standing_tasks = StandingTasks(self.database)
        self._listener = Listener(self.database.url_parameters)
        self._transitions = TransitionReader(self.database)
        self.watching = Watching(
            self.database, self._transitions, self._listener.subscribe(_TRANSITIONS_CHANNEL)
        )
        self._runners = (
            LoopRunner(ResultLoop(self._broker), self._listener.subscribe(channel(RESULTS_QUEUE))),
            LoopRunner(
                JudgementLoop(self._broker, Judge(), expander),
                self._listener.subscribe(channel(JUDGEMENTS_QUEUE)),
            ),
            LoopRunner(TimerLoop(self._broker), self._listener.subscribe(_TIMER_CHANNEL)),
            LoopRunner(LeaseSweeper(self._broker)),
            LoopRunner(Reconciler(self._broker)),
            *_retention(settings, self._broker),
            *_standing(settings, self._standing_tasks),
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
        await self._standing_tasks.close()
        await self._transitions.close()
        await self.database.close()

    @property
    def is_listening(self) -> bool:
        """Whether hints arrive; without them the orchestrator polls."""
        return self._listener.is_connected

    @property
    def failing_loops(self) -> list[str]:
        """The background loops whose last tick failed."""
        return [runner.name for runner in self._runners if runner.failures]

    async def _follow_templates(self) -> None:
        while True:
            await self._templates_changed.wait(None)
            self._catalogue.forget()


def _disabled(settings: OrchestrationSettings) -> Mapping[StepType, str]:
    switches = {
        (StepType.DECISION, "decision processing"): settings.decisions_enabled,
        (StepType.BATCHABLE, "batch processing"): settings.batches_enabled,
    }
    return {step_type: what for (step_type, what), enabled in switches.items() if not enabled}


def _retention(settings: OrchestrationSettings, broker: PgmqOrchestrationBroker) -> list[LoopRunner]:
    """Return the runner of retention, or nothing where everything is kept for ever."""
    if settings.retention_days == 0:
        return []
    age = timedelta(days=settings.retention_days)
    return [LoopRunner(Retention(broker, age=age, batch_size=settings.retention_batch_size))]


def _expander(settings: OrchestrationSettings, database: Database) -> Expander:
    return Expander(
        Revisions(database, environment=settings.environment),
        environment=settings.environment,
        decisions=DecisionLimits(
            settings.max_steps_per_decision,
            settings.max_decision_depth,
            settings.warn_steps_per_decision,
            settings.warn_decision_depth,
        ),
        batches=BatchLimits(max_parallel=settings.max_parallel_batches),
    )


def _session_settings(settings: OrchestrationSettings) -> Mapping[str, str]:
    return {"tasker.dlq_max_retries_exceeded": "on" if settings.dlq_max_retries_exceeded else "off"}


def _standing(settings: OrchestrationSettings, tasks: StandingTasks) -> Iterator[LoopRunner]:
    """Return the runners that look after tasks which stand still, as far as they are wanted."""
    if settings.staleness_detection_enabled:
        rules = DetectionRules(
            limits=settings.staleness_limits,
            interval=timedelta(seconds=settings.staleness_interval_seconds),
            batch_size=settings.staleness_batch_size,
            dry_run=settings.staleness_dry_run,
            auto_move_to_dlq=settings.staleness_auto_move_to_dlq,
            auto_transition_to_error=settings.staleness_auto_transition_to_error,
            emit_events=settings.staleness_emit_events,
        )
        yield LoopRunner(StalenessDetector(tasks, rules))
    if settings.dlq_give_up_days:
        yield LoopRunner(GiveUpLoop(tasks, age=timedelta(days=settings.dlq_give_up_days)))
    if settings.dlq_worker_unavailable:
        grace = timedelta(minutes=settings.dlq_worker_unavailable_minutes)
        yield LoopRunner(UnservedLoop(tasks, grace=grace))
