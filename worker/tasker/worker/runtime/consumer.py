"""Claims steps while slots are free and runs their handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from tasker.domain.results import ErrorType
from tasker.messaging.bands import Turns
from tasker.messaging.pgmq import PgmqWorkerBroker, channel
from tasker.messaging.poison import PoisonSearch
from tasker.messaging.records import ClaimedStep
from tasker.persistence.database import is_transient, patiently
from tasker.persistence.listener import Wakeup
from tasker.worker.handlers.attempts import WorkerIdentity, Yielded, given_by_worker, not_resolved
from tasker.worker.handlers.errors import HandlerResolutionError
from tasker.worker.handlers.execution import Execution
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.handlers.sealing import SealedResult
from tasker.worker.runtime.checkpoints import LeaseLostError, store_checkpoint
from tasker.worker.runtime.result_schemas import ResultValidation, result_check
from tasker.worker.runtime.revisions import KnownStep, RevisionCache
from tasker.worker.runtime.slots import Slots
from tasker.worker.runtime.submitter import ResultSubmitter, step_context

log = structlog.get_logger(__name__)

_MAX_BATCH: Final = 100
#: With a backlog, wait this long for several slots to come free instead of claiming one by one.
_LINGER_SECONDS: Final = 0.02


class StepConsumer:
    """Keeps the slots busy. A step is claimed only when a slot is free, so nothing is claimed and unstarted."""

    def __init__(
        self,
        broker: PgmqWorkerBroker,
        registry: HandlerRegistry,
        revisions: RevisionCache,
        submitter: ResultSubmitter,
        *,
        namespaces: Sequence[str],
        slots: int,
        handler_timeout_seconds: float,
        result_validation: ResultValidation,
        poll_seconds: float,
        wakeup: Wakeup,
        identity: WorkerIdentity,
    ) -> None:
        self._broker = broker
        self._poison = PoisonSearch(broker)
        self._registry = registry
        self._revisions = revisions
        self._submitter = submitter
        self._turns = Turns(namespaces)
        self._queues = {channel(queue): queue for queue in self._turns.queues()}
        self._handler_timeout_seconds = handler_timeout_seconds
        self._result_validation = result_validation
        self._poll_seconds = poll_seconds
        self._wakeup = wakeup
        self._identity = identity
        self._slots = Slots(slots)
        # A thread for every slot: whatever is claimed starts at once, sync or async.
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="handler")
        self._running: dict[UUID, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    @property
    def slots_in_use(self) -> int:
        """How many steps run right now."""
        return self._slots.in_use

    async def run(self) -> None:
        """Claim and start steps until `drain`."""
        try:
            await self._run()
        finally:
            self._stopped.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        hinted: set[str] | None = None
        looked_at = loop.time()  # when it last looked at every queue
        backlog = False
        while not self._stopping.is_set():
            await self._submitter.room()
            free = await self._slots.wait_free(linger_seconds=_LINGER_SECONDS if backlog else 0)
            if not free or self._stopping.is_set():
                continue
            limit = min(free, _MAX_BATCH)
            steps = await self._claim(self._turns.next(hinted), limit)
            for step in steps:
                self._start(step)
            backlog = len(steps) == limit
            if backlog:
                await asyncio.sleep(0)  # handlers that need no waiting finish first, and free their slots
                hinted = None
            else:
                if hinted is None:
                    looked_at = loop.time()
                news = await self._wakeup.wait(self._poll_seconds)
                # Hints for some queues, however many come, do not keep it from the others for longer than a poll.
                fresh = loop.time() < looked_at + self._poll_seconds
                hinted = {self._queues[name] for name in news} if news and fresh else None

    async def drain(self) -> None:
        """Claim no more, and wait for the steps that run, those of the last claim included."""
        self._stopping.set()
        self._wakeup.set()
        self._slots.wake()
        await self._stopped.wait()
        while self._running:
            await asyncio.wait(self._running.values())

    def cancel(self, step_uuid: UUID) -> None:
        """Stop a handler that runs for nothing, since its lease is lost."""
        if (task := self._running.get(step_uuid)) is not None:
            task.cancel("the lease is lost")

    def close(self) -> None:
        """Stop what runs still, for its worker is no more, and let the threads go.

        Steps that are stopped keep what they have yielded: their next attempt begins there.
        """
        for task in self._running.values():
            task.cancel("the worker stopped")
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _claim(self, queues: Sequence[str], limit: int) -> list[ClaimedStep]:
        return await patiently(
            lambda: self._claim_once(queues, limit),
            "claim_interrupted",
            outlasts=lambda _: True,  # whatever it is, it may pass, and nobody else claims for this worker
        )

    async def _claim_once(self, queues: Sequence[str], limit: int) -> list[ClaimedStep]:
        if self._stopping.is_set():
            return []
        try:
            return await self._broker.claim(queues, self._registry.callables(), limit)
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("claim_failed", queues=list(queues))
            if steps := await self._claim_singly(queues, limit):
                return steps
            raise

    async def _claim_singly(self, queues: Sequence[str], limit: int) -> list[ClaimedStep]:
        """Search the queues for poison; return what could be claimed meanwhile, which must run in any case."""
        claimed: list[ClaimedStep] = []
        try:
            for queue in queues:

                async def claim_one(msg_id: int, queue: str = queue) -> None:
                    claimed.extend(
                        await self._broker.claim([queue], self._registry.callables(), 1, only=msg_id)
                    )

                await self._poison.run(queue, limit - len(claimed), claim_one)
        except Exception:
            log.exception("poison_search_failed", queues=list(queues))
        return claimed

    def _start(self, step: ClaimedStep) -> None:
        self._slots.take()
        # A run of an earlier claim has lost its lease, or there would not be a new one.
        self.cancel(step.step_uuid)
        self._submitter.held[step.step_uuid] = step
        task = asyncio.create_task(self._run_step(step), name=step.name)
        self._running[step.step_uuid] = task

    async def _run_step(self, step: ClaimedStep) -> None:
        execution: Execution | None = None
        result: SealedResult | None = None
        try:
            while result is None:
                execution = await self._begin(step)
                ended = await execution.end()
                if isinstance(ended, Yielded):  # it runs again, from there, unless that cannot be stored
                    result = await store_checkpoint(self._broker, step, ended)
                else:
                    result = ended
            self._submitter.put(step, result)
        except _NotBegunError as error:
            self._submitter.put(step, error.result)
        except (asyncio.CancelledError, LeaseLostError):
            self._submitter.release(step)
            log.warning("step_abandoned", step_uuid=str(step.step_uuid), step_name=step.name)
        except (Exception, SystemExit) as error:  # the latter would take the loop and all other steps with it
            self._give_up(step, error)
        finally:
            if self._running.get(step.step_uuid) is asyncio.current_task():
                del self._running[step.step_uuid]
            if execution is None or execution.released.done():
                self._slots.give_back()
            else:
                # A thread cannot be stopped: its slot is free when it ends.
                execution.released.add_done_callback(lambda _: self._slots.give_back())

    async def _begin(self, step: ClaimedStep) -> Execution:
        timeout_seconds = step.timeout_seconds or self._handler_timeout_seconds
        try:
            known = await self._fetch(step)
            definition = known.step.handler
            handler = self._registry.resolve(step.handler, definition.method, definition.resolver)
            context = step_context(
                step,
                task_name=known.template.name,
                task_version=known.template.version,
                dependencies=known.step.dependencies,
                deadline=datetime.now(UTC) + timedelta(seconds=timeout_seconds),
                batch_size=known.batch_size,
            )
        except HandlerResolutionError as error:
            raise _NotBegunError(
                not_resolved(step.step_uuid, step.name, error, worker=self._identity)
            ) from error
        except Exception as error:
            log.exception("step_not_prepared", step_uuid=str(step.step_uuid), step_name=step.name)
            raise _NotBegunError(self._fault(step, "prepare", error)) from error
        return Execution(
            handler,
            context,
            timeout_seconds=timeout_seconds,
            executor=self._threads,
            worker=self._identity,
            result_check=result_check(self._result_validation, step, known),
        )

    def _give_up(self, step: ClaimedStep, error: BaseException) -> None:
        """End a step that something of ours went wrong with: otherwise its lease would be renewed for ever."""
        try:
            self._submitter.put(step, self._fault(step, "finish", error))
        except Exception:
            self._submitter.release(step)  # the lease runs out and the sweeper takes over
        log.error("step_not_finished", step_uuid=str(step.step_uuid), step_name=step.name, exc_info=error)

    def _fault(self, step: ClaimedStep, what: str, error: BaseException) -> SealedResult:
        message = f"the worker could not {what} the step: {type(error).__name__}"
        return given_by_worker(
            step.step_uuid, ErrorType.HANDLER_ERROR, message, retryable=True, worker=self._identity
        )

    async def _fetch(self, step: ClaimedStep) -> KnownStep:
        """Fetch what did not travel with the claim; while the database is away, wait: the lease is renewed."""
        return await patiently(lambda: self._fetch_once(step), "fetch_interrupted")

    async def _fetch_once(self, step: ClaimedStep) -> KnownStep:
        if not step.hydrated:
            await self._broker.hydrate(step)
        return await self._revisions.step(step.template_digest, step.template_step_name)


class _NotBegunError(Exception):
    """A claimed step whose handler cannot run, or not once more; carries its result."""

    def __init__(self, result: SealedResult) -> None:
        super().__init__()
        self.result = result
