"""Running a handler once, on the loop or in a thread, to exactly one result (spec 30 section 2)."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

from tasker.domain.results import ErrorType
from tasker.worker.handlers.batches import sized
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.handler import Handler
from tasker.worker.handlers.outcomes import Attempt, ResultCheck, Sealed, WorkerIdentity, Yielded


class _ExecutorClosedError(Exception):
    """The thread pool takes no more work."""


@dataclass(frozen=True, slots=True)
class _Returned:
    value: object


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


_Ended = _Returned | _Raised


class Execution:
    """One run of a handler, which starts when this is created.

    `await execution.outcome()` gives the one result, or the checkpoint of a handler that wants to be run again. A
    handler may go on after that: a thread that timed out cannot be interrupted, and a coroutine may refuse to be
    cancelled. `released` tells when it really ended, whatever happened to the result; the worker keeps its slot until
    then, and nothing reads the late result.

    Attributes:
        context: What the handler was given, with its deadline.
        released: Done when the handler occupies nothing any more; never carries an error.
    """

    def __init__(
        self,
        handler: Handler,
        context: StepContext,
        *,
        timeout_seconds: float,
        executor: ThreadPoolExecutor,
        worker: WorkerIdentity | None = None,
        result_check: ResultCheck | None = None,
    ) -> None:
        self._handler = handler
        self._result_check = result_check
        self._timeout_seconds = timeout_seconds
        self._executor = executor
        self._worker = worker or WorkerIdentity()
        self._started_at = datetime.now(UTC)
        self._started = perf_counter()
        if context.deadline is None:
            context = replace(context, deadline=self._started_at + timedelta(seconds=timeout_seconds))
        self.context = context
        self._thread: Future[_Ended] | None = None
        self._loop = asyncio.get_running_loop()
        self._times_out_at = self._loop.time() + timeout_seconds
        self._wakened: asyncio.Future[None] = self._loop.create_future()
        self.released: asyncio.Future[None] = self._loop.create_future()
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._task_ended)

    async def outcome(self) -> Sealed | Yielded:
        """Wait for the handler or its timeout, whichever is first, and return the result or a checkpoint.

        Raises:
            asyncio.CancelledError: The caller was cancelled, because the lease is lost or the worker stops:
                the handler is told, and there is no result.
        """
        if not self._task.done():
            timer = self._loop.call_at(self._times_out_at, self._wake)
            try:
                await self._wakened
            except asyncio.CancelledError as exc:
                self._abandon(str(exc) or "cancelled by the worker")
                raise
            finally:
                timer.cancel()
        attempt = self._attempt()
        if not self._task.done():
            self._abandon("timeout")
            return attempt.broke(ErrorType.HANDLER_TIMEOUT, self._timeout_message(), retryable=True)
        if self._task.cancelled():  # nobody here cancelled it
            return attempt.panicked(
                asyncio.CancelledError("the handler let a cancellation of its own escape")
            )
        try:
            return _judge(self._task.result(), attempt)
        except Exception as exc:
            # An author's exception can break even while it is read; a claimed step yields a result anyway.
            return attempt.panicked(exc)

    async def _run(self) -> _Ended:
        # A task that ends by KeyboardInterrupt or SystemExit takes the event loop with it, so nothing but
        # cancellation may leave this function.
        try:
            value = self._handler.call(self.context) if self._handler.is_async else await self._in_thread()
            if inspect.isawaitable(value):  # a plain function may also hand back a coroutine
                value = await value
            value = sized(value, self.context.batch_size)
            if self._handler.finish is not None:
                value = self._handler.finish(value)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            return _Raised(exc)
        return _Returned(value)

    async def _in_thread(self) -> Any:
        call, context = self._handler.call, self.context

        def run() -> _Ended:  # a StopIteration cannot cross a future, so no exception does
            try:
                return _Returned(call(context))
            except BaseException as exc:
                return _Raised(exc)

        try:
            self._thread = self._executor.submit(contextvars.copy_context().run, run)
        except RuntimeError as exc:
            raise _ExecutorClosedError from exc
        match await asyncio.wrap_future(self._thread):
            case _Raised(error):
                raise error
            case _Returned(value):
                return value

    def _abandon(self, reason: str) -> None:
        self.context.cancelled.set(reason)
        self._task.cancel()

    def _wake(self) -> None:
        if not self._wakened.done():
            self._wakened.set_result(None)

    def _task_ended(self, _: asyncio.Task[_Ended]) -> None:
        self._wake()
        if self._thread is None or self._thread.done():
            self._release()
        else:
            self._thread.add_done_callback(self._thread_ended)

    def _thread_ended(self, _: Future[_Ended]) -> None:
        """Runs in the handler's thread."""
        with suppress(RuntimeError):  # the loop is closed, and with it everybody who waited
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        if not self.released.done():
            self.released.set_result(None)

    def _attempt(self) -> Attempt:
        return Attempt(
            step_uuid=str(self.context.step_uuid),
            worker=self._worker,
            handler_version=self._handler.version,
            started_at=self._started_at,
            completed_at=datetime.now(UTC),
            execution_time_ms=round((perf_counter() - self._started) * 1000),
            result_check=self._result_check,
        )

    def _timeout_message(self) -> str:
        return (
            f"handler {self._handler.name!r} did not finish within {self._timeout_seconds:g} s "
            f"(attempt {self.context.attempt} of {self.context.max_attempts})"
        )


def _judge(ended: _Ended, attempt: Attempt) -> Sealed | Yielded:
    match ended:
        case _Returned(value):
            return attempt.returned(value)
        case _Raised(_ExecutorClosedError()):
            message = "the worker's thread pool is closing, so the handler did not run"
            return attempt.broke(ErrorType.SEMAPHORE_ACQUISITION_FAILED, message, retryable=True)
        case _Raised(Exception() as error):
            return attempt.raised(error)
        case _Raised(error):
            return attempt.panicked(error)
