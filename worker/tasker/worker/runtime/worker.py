"""A worker: everything between its database and its handlers, started and drained in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from tasker.config.settings import WorkerSettings
from tasker.domain.uuids import uuid7
from tasker.messaging.claim_order import ClaimOrder
from tasker.messaging.pgmq import PgmqWorkerBroker
from tasker.messaging.wakeup import POLL_SECONDS, MessageWakeup
from tasker.persistence.database import Database
from tasker.persistence.listener import Listener
from tasker.persistence.migrations import check_schema
from tasker.persistence.operations.workers import register_worker, retire_worker
from tasker.persistence.sessions import MOST_REQUESTS
from tasker.telemetry.logs import get_logger
from tasker.version import VERSION
from tasker.worker.handlers.attempts import WorkerIdentity
from tasker.worker.handlers.checking import HandlersUnfitError, check_handlers
from tasker.worker.handlers.errors import names_shown
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.runtime.claims import OpenClaims
from tasker.worker.runtime.consumer import StepConsumer
from tasker.worker.runtime.heartbeat import Heartbeat
from tasker.worker.runtime.revisions import known_revisions
from tasker.worker.runtime.running import StepRunner
from tasker.worker.runtime.served import ServedTemplates
from tasker.worker.runtime.slots import Slots
from tasker.worker.runtime.submitter import ResultSubmitter
from tasker.worker.runtime.templates import Registration, register_directory

log = get_logger(__name__)

#: How the contract calls the kind of this worker.
WORKER_TYPE: Final = "general"


class Worker:
    """Serves the namespaces of its template directory with the handlers of its registry.

    Attributes:
        worker_uuid: One per process; labels leases, transitions and results.
        worker_id: The same as replies and results name it.
        database: Its connections.
        listener: Brings hints.
        registration: What became of the template directory, once started.
        served: What it can run, once started.
        on_change: Called when `problem` may have changed.
    """

    def __init__(self, settings: WorkerSettings, registry: HandlerRegistry) -> None:
        self._settings = settings
        self._registry = registry
        self.worker_uuid = uuid7()
        self.worker_id = f"worker_{self.worker_uuid}"
        self._identity = WorkerIdentity(self.worker_id, socket.gethostname())
        self.database = Database(settings.database_url.get_secret_value(), application_name="tasker-worker")
        self.registration = Registration()
        self._sessions = self.database.sessions()
        self._requests = self.database.sessions(at_most=MOST_REQUESTS)
        self.listener = Listener(self.database.url_parameters)
        self._slots = Slots(settings.slots)
        self._claims = OpenClaims()
        self.on_change: Callable[[], None] = lambda: None
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect, register templates, then claim.

        Raises:
            psycopg.OperationalError: The database does not answer.
            SchemaVersionError: Its schema does not fit.
            TemplateDirectoryError: There is no such directory.
            HandlersUnfitError: Handlers and templates do not fit, and `strict_handlers` is set.
        """
        try:
            await self._connect()
        except BaseException:
            await self.listener.stop()
            await self.database.close()
            raise
        self._heartbeat.start()
        self._claiming = asyncio.create_task(self._consumer.run(), name="claims")
        self._claiming.add_done_callback(lambda _: self.on_change())
        self._slots.on_hung = self.on_change
        self._background = [
            self._claiming,
            asyncio.create_task(
                self._submitter.run(self._consumer if self._settings.direct_completion else None),
                name="submissions",
            ),
        ]

    async def _connect(self) -> None:
        await self.database.open()
        await check_schema(self.database)
        self.registration = await register_directory(
            self._settings.template_path,
            self.database,
            strict=self._settings.strict_templates,
            force_overwrite=self._settings.force_overwrite,
        )
        self.registration.write_log()
        self._report_handlers()
        self._assemble()
        await register_worker(
            self._sessions,
            self.worker_uuid,
            hostname=self._identity.hostname,
            version=VERSION,
            namespaces=self.registration.discovered_namespaces,
            handlers=self._registry.offers(),
            slots=self._settings.slots,
        )
        await self.listener.start()

    def _assemble(self) -> None:
        """Make what claims, runs, submits and renews; nothing of it has begun."""
        revisions = known_revisions(self.database)
        self.served = ServedTemplates(self.registration.templates, self._registry, revisions)
        broker = PgmqWorkerBroker(
            self._sessions,
            worker_uuid=self.worker_uuid,
            refusal_limit=timedelta(seconds=self._settings.refusal_limit_seconds),
        )
        self._submitter = ResultSubmitter(broker, self._claims, self._identity)
        self._runner = StepRunner(
            self._requests,
            self._registry,
            revisions,
            self._claims,
            self._submitter,
            slots=self._slots,
            handler_timeout_seconds=self._settings.handler_timeout_seconds,
            result_validation=self._settings.result_validation,
            identity=self._identity,
        )
        queues = ClaimOrder(self.registration.discovered_namespaces).queues()
        wakeup = MessageWakeup(self._sessions, queues, self.listener)
        self._consumer = StepConsumer(
            broker,
            self._registry,
            self._runner,
            self._submitter,
            namespaces=self.registration.discovered_namespaces,
            slots=self._slots,
            poll_seconds=POLL_SECONDS,
            wakeup=wakeup,
        )
        for channel in self._consumer.channels:
            self.listener.subscribe(channel, wakeup)
        self._heartbeat = Heartbeat(
            self.database.session(), self.worker_uuid, self._claims, self._slots, self._runner.cancel
        )

    async def stop(self) -> None:
        """Claim no more, let running steps finish and be recorded, and disconnect.

        Raises:
            TimeoutError: Handlers went on for longer than the shutdown timeout; their leases will run out.
        """
        try:
            async with asyncio.timeout(self._settings.shutdown_timeout_seconds):
                await self._consumer.drain()
                await self._submitter.flush()
                # What was being submitted when the claims stopped may have been followed by others.
                await self._runner.finish()
                await self._submitter.flush()
                await retire_worker(self._sessions, self.worker_uuid)
        finally:
            await self._disconnect()

    async def _disconnect(self) -> None:
        for task in self._background:
            task.cancel()
        for end in await asyncio.gather(*self._background, return_exceptions=True):
            if isinstance(end, Exception):
                log.error("background_task_failed", exc_info=end)
        await self._heartbeat.stop()
        self._runner.close()
        await self.listener.stop()
        await self._sessions.close()
        await self._requests.close()
        await self.database.close()

    @property
    def is_listening(self) -> bool:
        """Whether hints arrive; without them the worker polls."""
        return self.listener.is_connected

    @property
    def is_claiming(self) -> bool:
        """Whether the worker takes work."""
        return not self._claiming.done()

    @property
    def slots_in_use(self) -> int:
        """Slots that are taken, by steps that run or by handlers that go on after theirs."""
        return self._slots.in_use

    @property
    def slots_hung(self) -> int:
        """Slots that are taken by handlers that go on after their step has ended."""
        return self._slots.hung

    @property
    def problem(self) -> str | None:
        """What keeps the worker from running steps; None if nothing does."""
        if not self.is_claiming:
            return "the worker takes no work"
        if self._slots.hung >= self._slots.size:
            return (
                f"handlers that go on after their step has ended take all slots ({self._slots.size}); "
                "restart the worker, and let handlers give up in time"
            )
        return None

    @property
    def namespaces(self) -> list[str]:
        """The namespaces served."""
        return self.registration.discovered_namespaces

    def _report_handlers(self) -> None:
        unready: list[str] = []
        for problem in self._registry.problems:
            log.error(
                "handlers_left_out", where=problem.where, problem=str(problem), traceback=problem.traceback
            )
        for template in self.registration.templates:
            check = check_handlers(template, self._registry)
            if check.missing:
                log.warning(
                    "handler_missing",
                    template=template.key,
                    steps=list(check.missing),
                    problem="; ".join(dict.fromkeys(check.missing.values())),
                    known=names_shown(self._registry.callables()),
                )
            for step, problems in check.unfit.items():
                log.warning(
                    "handler_unfit", template=template.key, step_name=step, problem="; ".join(problems)
                )
            if check:
                unready.append(f"{template.key}: {'; '.join(check.problems)}")
        if unready and self._settings.strict_handlers:
            raise HandlersUnfitError(unready)
