"""Running claimed steps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tasker.domain.results import ErrorType, StepExecutionResult
from tasker.persistence.failures import patiently
from tasker.persistence.operations.claim import ClaimedStep, DependenciesTooLargeError, hydrate_step
from tasker.persistence.queries import Queries
from tasker.persistence.reading.revisions import Revisions
from tasker.telemetry.logs import get_logger
from tasker.worker.handlers.attempts import WorkerIdentity, Yielded, given_by_worker, not_resolved
from tasker.worker.handlers.errors import HandlerResolutionError
from tasker.worker.handlers.execution import Execution
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.handlers.sealing import SealedResult
from tasker.worker.handlers.threads import HandlerThreads
from tasker.worker.runtime.checkpoints import LeaseLostError, store_checkpoint
from tasker.worker.runtime.claims import OpenClaims
from tasker.worker.runtime.result_schemas import ResultValidation, result_check
from tasker.worker.runtime.revisions import KnownStep
from tasker.worker.runtime.slots import Slots
from tasker.worker.runtime.solitude import Solitude
from tasker.worker.runtime.step_contexts import step_context
from tasker.worker.runtime.submitter import ResultSubmitter
from tasker.worker.runtime.working_directory import WorkingDirectory

log = get_logger(__name__)

#: Whoever is no suspect runs beside others.
_TOGETHER: Final = nullcontext()


class StepRunner:
    """Runs claimed steps, each in a slot and to one result, which it hands to the submitter."""

    def __init__(
        self,
        queries: Queries,
        registry: HandlerRegistry,
        revisions: Revisions[Mapping[str, KnownStep]],
        claims: OpenClaims,
        submitter: ResultSubmitter,
        *,
        slots: Slots,
        handler_timeout_seconds: float,
        result_validation: ResultValidation,
        identity: WorkerIdentity,
    ) -> None:
        self._queries = queries
        self._registry = registry
        self._revisions = revisions
        self._claims = claims
        self._submitter = submitter
        self._slots = slots
        self._handler_timeout_seconds = handler_timeout_seconds
        self._result_validation = result_validation
        self._identity = identity
        # A thread for every slot: whatever is claimed starts at once, sync or async.
        self._threads = HandlerThreads(slots.size, thread_name_prefix="handler")
        self._directory = WorkingDirectory()
        self._running: dict[UUID, asyncio.Task[None]] = {}
        self._solitude = Solitude(queries, slots, self._running, submitter.flush)

    def start(self, step: ClaimedStep) -> None:
        """Run a step in the background."""
        self._slots.take()
        # A run of an earlier claim has lost its lease, or there would not be a new one.
        self.cancel(step.step_uuid)
        self._claims.add(step)
        task = self._running[step.step_uuid] = asyncio.create_task(self._run(step), name=step.name)
        if step.suspect:
            self._solitude.expect(task)

    def cancel(self, step_uuid: UUID) -> None:
        """Stop a handler that runs for nothing, since its lease is lost; one that has ended is let be."""
        if (task := self._running.get(step_uuid)) is not None:
            log.warning("lease_lost", step_uuid=str(step_uuid), step_name=task.get_name())
            task.cancel("the lease is lost")

    async def finish(self) -> None:
        """Wait until no step runs."""
        while self._running:
            await asyncio.wait(self._running.values())

    def close(self) -> None:
        """Stop what runs still, for its worker is no more, and let the threads go.

        Steps that are stopped keep what they have yielded: their next attempt begins there.
        """
        for task in self._running.values():
            task.cancel("the worker stopped")
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, step: ClaimedStep) -> None:
        execution: Execution | None = None
        result: SealedResult | None = None
        try:
            async with self._solitude.of(step) if step.suspect else _TOGETHER:
                while result is None:  # after a checkpoint it runs again, from there
                    begun = await self._begin(step)
                    if isinstance(begun, SealedResult):
                        result = begun
                    else:
                        execution = begun
                        end = await execution.end()
                        result = (
                            await store_checkpoint(self._queries, step, end)
                            if isinstance(end, Yielded)
                            else end
                        )
            _tell(step, result.result)
            self._submitter.put(step, result)
        except (asyncio.CancelledError, LeaseLostError):
            self._claims.release(step)
            log.warning("step_abandoned", step_uuid=str(step.step_uuid), step_name=step.name)
        except (Exception, SystemExit) as error:  # the latter would take the loop and all other steps with it
            self._give_up(step, error)
        finally:
            if self._running.get(step.step_uuid) is asyncio.current_task():
                del self._running[step.step_uuid]
            if execution is None or execution.released.done():
                self._slots.give_back()
            else:
                self._slots.give_back_after(execution.released)  # a thread cannot be stopped
            self._directory.look(step, others_run=self._slots.in_use > 0)

    async def _begin(self, step: ClaimedStep) -> Execution | SealedResult:
        """Start the handler; return a result instead if it cannot run, or not once more."""
        timeout_seconds = step.timeout_seconds or self._handler_timeout_seconds
        try:
            known = await patiently(lambda: self._fetch(step), "fetch_interrupted")
            definition = known.step.handler
            handler = self._registry.resolve(definition.callable, definition.method, definition.resolver)
            context = step_context(
                step, known, deadline=datetime.now(UTC) + timedelta(seconds=timeout_seconds)
            )
        except DependenciesTooLargeError as error:
            return given_by_worker(
                step.step_uuid,
                ErrorType.DEPENDENCIES_TOO_LARGE,
                str(error),
                retryable=False,
                worker=self._identity,
            )
        except HandlerResolutionError as error:
            return not_resolved(step.step_uuid, step.name, error, worker=self._identity)
        except Exception as error:
            log.exception("step_not_prepared", step_uuid=str(step.step_uuid), step_name=step.name)
            return self._fault(step, "prepare", error)
        return Execution(
            handler,
            context,
            timeout_seconds=timeout_seconds,
            executor=self._threads,
            worker=self._identity,
            result_check=result_check(self._result_validation, step, known),
        )

    async def _fetch(self, step: ClaimedStep) -> KnownStep:
        """Fetch what did not travel with the claim."""
        if not step.hydrated:
            await hydrate_step(self._queries, step)
        return (await self._revisions.get(step.template_digest))[step.template_step_name]

    def _give_up(self, step: ClaimedStep, error: BaseException) -> None:
        """End a step that something of ours went wrong with: otherwise its lease would be renewed for ever."""
        try:
            self._submitter.put(step, self._fault(step, "finish", error))
        except Exception:
            self._claims.release(step)  # the lease runs out and the sweeper takes over
        log.error("step_not_finished", step_uuid=str(step.step_uuid), step_name=step.name, exc_info=error)

    def _fault(self, step: ClaimedStep, what: str, error: BaseException) -> SealedResult:
        message = f"the worker could not {what} the step: {type(error).__name__}"
        return given_by_worker(
            step.step_uuid, ErrorType.HANDLER_ERROR, message, retryable=True, worker=self._identity
        )


def _tell(step: ClaimedStep, result: StepExecutionResult) -> None:
    """Log an attempt that failed; what becomes of the step is for orchestration to say."""
    if (error := result.error) is None:
        return
    log.warning(
        "step_attempt_failed",
        correlation_id=str(step.correlation_id),
        task_uuid=str(step.task_uuid),
        step_uuid=str(step.step_uuid),
        step_name=step.name,
        handler=step.handler,
        attempt=step.attempt,
        max_attempts=step.max_attempts,
        error_class=result.metadata.context.get("exception_class"),
        error_type=error.error_type,
        error=error.message,
        retryable=error.retryable,
        traceback="".join(error.backtrace) or None,
    )
