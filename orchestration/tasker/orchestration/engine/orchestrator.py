"""An orchestrator: everything between its database and its clients, started and drained in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from tasker.config.settings import OrchestrationSettings
from tasker.domain.templates.document import StepType
from tasker.domain.templates.expansion import DecisionLimits
from tasker.messaging.pgmq import PgmqOrchestrationBroker
from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE, channel
from tasker.messaging.wakeup import MessageWakeup
from tasker.orchestration.engine.analytics import Analytics
from tasker.orchestration.engine.backpressure import Backpressure
from tasker.orchestration.engine.catalogue import TemplateCatalogue
from tasker.orchestration.engine.creation import TaskCreator
from tasker.orchestration.engine.dlq import DlqEntries
from tasker.orchestration.engine.expansion import BatchLimits, Expander
from tasker.orchestration.engine.feed_watch import FeedWatch
from tasker.orchestration.engine.groups import Groups
from tasker.orchestration.engine.judge import Judge
from tasker.orchestration.engine.namespaces import Namespaces
from tasker.orchestration.engine.operators import Operators
from tasker.orchestration.engine.poison import PoisonMessages
from tasker.orchestration.engine.revisions import PlannedRevisions
from tasker.orchestration.engine.task_watch import TaskWatch
from tasker.orchestration.engine.versions import TemplateVersions
from tasker.orchestration.engine.watching import Watching
from tasker.orchestration.loops.backpressure import BackpressureLoop
from tasker.orchestration.loops.give_up import GiveUpLoop
from tasker.orchestration.loops.judgements import JudgementLoop
from tasker.orchestration.loops.reconciler import Reconciler
from tasker.orchestration.loops.results import ResultLoop
from tasker.orchestration.loops.retention import Retention
from tasker.orchestration.loops.runner import LoopRunner
from tasker.orchestration.loops.staleness import DetectionRules, StalenessDetector
from tasker.orchestration.loops.sweeper import LeaseSweeper
from tasker.orchestration.loops.timers import TimerLoop
from tasker.orchestration.loops.unserved import UnservedLoop
from tasker.persistence.database import Database
from tasker.persistence.listener import Listener, Wakeup
from tasker.persistence.migrations import check_schema
from tasker.persistence.operations.register import TEMPLATE_CHANGED_CHANNEL
from tasker.persistence.reading.analytics import AnalyticsReader
from tasker.persistence.reading.backlogs import BacklogReader
from tasker.persistence.reading.moved_tasks import MovedTaskReader
from tasker.persistence.reading.tasks import TaskReader
from tasker.persistence.reading.transitions import TransitionReader
from tasker.persistence.sessions import MOST_REQUESTS
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

_TIMER_CHANNEL: Final = "tasker_timer"


class Orchestrator:
    """Any number may run on one database; none is special.

    Attributes:
        database: Its connections.
        creator: Creates tasks.
        reader: Reads them.
        operators: Acts on them by hand.
        groups: Creates, cancels and mends many with one call.
        dlq: Puts them before a person, and keeps what that person finds.
        versions: Versions of templates, and which of them are in use.
        namespaces: Pauses namespaces, and tells how their queues are.
        poison: Messages that nobody could handle.
        watching: Reads for all who watch.
        task_watch: Watches one task.
        feed_watch: Watches many.
        analytics: Tells how they went lately.
        backpressure: Refuses them while too much waits.
        listener: Brings hints.
    """

    def __init__(self, settings: OrchestrationSettings) -> None:
        self._settings = settings
        self.database = Database(
            settings.database_url.get_secret_value(),
            application_name="tasker-orchestration",
            session_settings=_session_settings(settings),
        )
        # One session is the sweeper's and one the detector's own, since each looks at when it connected; the actions of
        # operators share a few, and what is called in a row the rest.
        self._sessions = self.database.sessions()
        self._requests = self.database.sessions(at_most=MOST_REQUESTS)
        self._sweeping = self.database.session()
        self._detecting = self.database.session()
        self._analysing = self.database.sessions(at_most=1)
        self._broker = PgmqOrchestrationBroker(self._sessions)
        self.listener = Listener(self.database.url_parameters)
        revisions = PlannedRevisions(self.database, settings.environment)
        expander = _expander(settings, revisions)
        self._catalogue = TemplateCatalogue(
            self.database, revisions.of(), input_validation=settings.input_validation
        )
        self.reader = TaskReader(self.database)
        self.creator = TaskCreator(
            self._catalogue,
            self._sessions,
            self.reader,
            environment=settings.environment,
            disabled=_disabled(settings),
        )
        self.operators = Operators(self._requests, expander)
        self.groups = Groups(self.creator, self.operators, self._requests, environment=settings.environment)
        self.dlq = DlqEntries(self.database)
        self.analytics = Analytics(AnalyticsReader(self._analysing), self.database.usage)
        self.versions = TemplateVersions(self.database, self._catalogue)
        self.namespaces = Namespaces(self.database)
        self.poison = PoisonMessages(self.database, self.operators)
        self._transitions = TransitionReader(self.database)
        self.backpressure = Backpressure(
            worker_queues=settings.worker_queue_limits, result_queues=settings.result_queue_limits
        )
        self._moved_tasks = MovedTaskReader(self.database)
        self.watching = Watching(self.database, self._transitions, self._moved_tasks, self.listener)
        self.task_watch = TaskWatch(self.watching, self.reader, self._transitions)
        self.feed_watch = FeedWatch(self.watching, self._moved_tasks)
        self._runners = (*self._lasting_loops(expander), *self._chosen_loops())
        self._templates_changed = self.listener.subscribe(TEMPLATE_CHANGED_CHANNEL)
        self._forgetting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and begin to work.

        Raises:
            psycopg.OperationalError: The database does not answer.
            SchemaVersionError: Its schema does not fit.
        """
        await self.database.open()
        await check_schema(self.database)
        await self.listener.start()
        await self.watching.start()
        await self.creator.start()
        self._forgetting = asyncio.create_task(self._forget_changed_templates(), name="templates")
        for runner in self._runners:
            runner.start()

    async def stop(self) -> None:
        """Finish the work at hand and disconnect."""
        await self.creator.stop()
        await self.analytics.stop()
        await self.watching.stop()
        for runner in self._runners:
            await runner.stop()
        if self._forgetting is not None:
            self._forgetting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._forgetting
        await self.listener.stop()
        for sessions in (
            self._sessions, self._requests, self._sweeping, self._detecting, self._analysing
        ):  # fmt: skip
            await sessions.close()
        await self._transitions.close()
        await self._moved_tasks.close()
        await self.database.close()

    @property
    def is_listening(self) -> bool:
        """Whether hints arrive; without them the orchestrator polls."""
        return self.listener.is_connected

    @property
    def failing_loops(self) -> list[str]:
        """The background loops whose last tick failed."""
        return [runner.name for runner in self._runners if runner.failures]

    async def _forget_changed_templates(self) -> None:
        while True:
            await self._templates_changed.wait(None)
            self._catalogue.forget()

    def _lasting_loops(self, expander: Expander) -> Iterator[LoopRunner]:
        """Return the runners of the loops without which no task gets on."""
        yield LoopRunner(ResultLoop(self._broker), self._messages_of(RESULTS_QUEUE))
        yield LoopRunner(JudgementLoop(self._broker, Judge(), expander), self._messages_of(JUDGEMENTS_QUEUE))
        yield LoopRunner(TimerLoop(self._sessions), self.listener.subscribe(_TIMER_CHANNEL))
        yield LoopRunner(LeaseSweeper(self._sweeping))
        yield LoopRunner(Reconciler(self._sessions))

    def _messages_of(self, queue: str) -> Wakeup:
        wakeup = MessageWakeup(self._sessions, [queue], self.listener)
        return self.listener.subscribe(channel(queue), wakeup)

    def _chosen_loops(self) -> Iterator[LoopRunner]:
        """Return the runners of what settings can turn off."""
        settings = self._settings
        if settings.backpressure_enabled:
            reader = BacklogReader(self._sessions, [RESULTS_QUEUE, JUDGEMENTS_QUEUE])
            yield LoopRunner(BackpressureLoop(reader, self.backpressure))
        if settings.retention_days:
            age = timedelta(days=settings.retention_days)
            yield LoopRunner(Retention(self._sessions, age=age, group_size=settings.retention_batch_size))
        if settings.staleness_detection_enabled:
            yield LoopRunner(StalenessDetector(self._detecting, self._sessions, _detection_rules(settings)))
        if settings.dlq_give_up_days:
            yield LoopRunner(GiveUpLoop(self._sessions, age=timedelta(days=settings.dlq_give_up_days)))
        if settings.dlq_worker_unavailable:
            grace = timedelta(minutes=settings.dlq_worker_unavailable_minutes)
            yield LoopRunner(UnservedLoop(self._sessions, grace=grace))


def _disabled(settings: OrchestrationSettings) -> Mapping[StepType, str]:
    switches = {
        (StepType.DECISION, "decision processing"): settings.decisions_enabled,
        (StepType.BATCHABLE, "batch processing"): settings.batches_enabled,
    }
    return {step_type: what for (step_type, what), enabled in switches.items() if not enabled}


def _expander(settings: OrchestrationSettings, revisions: PlannedRevisions) -> Expander:
    return Expander(
        revisions,
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


def _detection_rules(settings: OrchestrationSettings) -> DetectionRules:
    return DetectionRules(
        limits=settings.staleness_limits,
        interval=timedelta(seconds=settings.staleness_interval_seconds),
        group_size=settings.staleness_batch_size,
        dry_run=settings.staleness_dry_run,
        auto_move_to_dlq=settings.staleness_auto_move_to_dlq,
        auto_transition_to_error=settings.staleness_auto_transition_to_error,
        emit_events=settings.staleness_emit_events,
    )
