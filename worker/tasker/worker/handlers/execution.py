"""Running a handler once, on the loop or in a thread, to exactly one result."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TypeAlias

from tasker.domain.results import ErrorType
from tasker.telemetry.logs import bind_step
from tasker.worker.handlers.attempts import Attempt, End, ResultCheck, WorkerIdentity
from tasker.worker.handlers.batches import sized
from tasker.worker.handlers.containment import contain_tasks, enter_handler
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.handler import Handler


class _ExecutorClosedError(Exception):
    """The thread pool takes no more work."""


@dataclass(frozen=True, slots=True)
class _Returned:
    value: object


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


#: What the author's code gave.
_Answer: TypeAlias = _Returned | _Raised
#: A plain function may also hand back a coroutine, which belongs to the loop.
_FromThread: TypeAlias = End | Awaitable[object]


class Execution:
    """One run of a handler, which starts when this is created.

    `await execution.end()` gives the one result, or the checkpoint of a handler that wants to be run again. A
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
        self._thread: Future[_FromThread] | None = None
        self._loop = asyncio.get_running_loop()
        contain_tasks(self._loop)
        self._times_out_at = self._loop.time() + timeout_seconds
        self._wakened: asyncio.Future[None] = self._loop.create_future()
        self.released: asyncio.Future[None] = self._loop.create_future()
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._task_ended)

    async def end(self) -> End:
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
        if not self._task.done():
            self._abandon("timeout")
            return self._attempt().broke(ErrorType.HANDLER_TIMEOUT, self._timeout_message(), retryable=True)
        if self._task.cancelled():  # nobody here cancelled it
            return self._attempt().cancelled_itself()
        ended = self._task.result()
        return self._end_of(ended) if isinstance(ended, _Answer) else ended

    async def _run(self) -> _Answer | End:
        # A task that ends by KeyboardInterrupt or SystemExit takes the event loop with it, so nothing but
        # cancellation may leave this function.
        enter_handler()
        bind_step(self.context.log_fields)
        try:
            if self._handler.is_async:
                value = self._handler.call(self.context)
            else:
                value = await self._in_thread()
                if isinstance(value, End):
                    return value
            if inspect.isawaitable(value):
                value = await value
            return _Returned(self._finished(value))
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            return _Raised(exc)

    async def _in_thread(self) -> _FromThread:
        """Run a sync handler as far as its end: what it returned may take long to read."""
        call, context = self._handler.call, self.context

        def run() -> _FromThread:  # a StopIteration cannot cross a future, so no exception does
            answer: _Answer
            try:
                value = call(context)
                if inspect.isawaitable(value):
                    return value
                answer = _Returned(self._finished(value))
            except BaseException as exc:
                answer = _Raised(exc)
            return self._end_of(answer)

        try:
            self._thread = self._executor.submit(contextvars.copy_context().run, run)
        except RuntimeError as exc:
            raise _ExecutorClosedError from exc
        return await asyncio.wrap_future(self._thread)

    def _finished(self, value: object) -> object:
        value = sized(value, self.context.batch_size)
        return value if self._handler.finish is None else self._handler.finish(value)

    def _end_of(self, answer: _Answer) -> End:
        attempt = self._attempt()
        try:
            return _read(answer, attempt)
        except BaseException as exc:
            # What authors write can break even while it is read, and in any way; a claimed step yields a result.
            return attempt.panicked(exc)

    def _abandon(self, reason: str) -> None:
        self.context.cancelled.set(reason)
        self._task.cancel()

    def _wake(self) -> None:
        if not self._wakened.done():
            self._wakened.set_result(None)

    def _task_ended(self, _: asyncio.Task[_Answer | End]) -> None:
        self._wake()
        if self._thread is None or self._thread.done():
            self._release()
        else:
            self._thread.add_done_callback(self._thread_ended)

    def _thread_ended(self, _: Future[_FromThread]) -> None:
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


def _read(answer: _Answer, attempt: Attempt) -> End:
    match answer:
        case _Returned(value):
            return attempt.returned(value)
        case _Raised(_ExecutorClosedError()):
            message = "the worker's thread pool is closing, so the handler did not run"
            return attempt.broke(ErrorType.SEMAPHORE_ACQUISITION_FAILED, message, retryable=True)
        case _Raised(Exception() as error):
            return attempt.raised(error)
        case _Raised(asyncio.CancelledError()):
            return attempt.cancelled_itself()
        case _Raised(error):
            return attempt.panicked(error)
