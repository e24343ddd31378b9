"""Running a handler once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tasker.domain.results import ResultStatus
from tasker.worker import CancelSignal, StepContext, step_handler
from tasker.worker.handlers.execution import Execution
from tasker.worker.handlers.functions import marked_handler
from tests.unit.handlers.conftest import NewContext, Run, sealed_by

Start = Callable[..., Execution]

request_id = contextvars.ContextVar("request_id", default="none")


async def test_a_sync_handler_that_times_out_fails_at_once_and_frees_its_slot_later(start: Start) -> None:

    finish = threading.Event()
    seen: list[CancelSignal] = []

    @step_handler("slow")
    def slow(context: StepContext) -> dict[str, Any]:
        seen.append(context.cancelled)
        finish.wait(10)
        return {"late": True}

    execution = start(slow, timeout_seconds=0.05)
    result = (await sealed_by(execution)).result
    assert result.error is not None
    assert (result.status, result.error.error_type) == (ResultStatus.ERROR, "handler_timeout")
    assert result.error.retryable is result.metadata.retryable is True
    assert "'slow'" in result.error.message
    assert "attempt 1 of 3" in result.error.message
    assert result.metadata.execution_time_ms >= 50
    assert seen[0].reason == "timeout"

    assert not execution.released.done()  # the thread still works: its slot is taken
    finish.set()
    await execution.released
    assert result.result == {}


async def test_an_async_handler_that_times_out_is_cancelled(start: Start) -> None:
    ended = asyncio.Event()

    @step_handler("slow")
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    execution = start(slow, timeout_seconds=0.05)
    result = (await sealed_by(execution)).result
    assert result.metadata.error_type == "handler_timeout"
    await execution.released
    assert ended.is_set()


async def test_an_async_handler_that_refuses_to_be_cancelled_does_not_hold_the_result(start: Start) -> None:
    let_go = asyncio.Event()

    @step_handler("stubborn")
    async def stubborn() -> dict[str, Any]:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return {"late": True}

    execution = start(stubborn, timeout_seconds=0.05)
    assert (await sealed_by(execution)).result.metadata.error_type == "handler_timeout"
    assert not execution.released.done()
    let_go.set()
    await execution.released


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_cancelled_worker_gets_no_result_and_the_handler_is_told(start: Start, kind: str) -> None:
    running = asyncio.Event()
    loop = asyncio.get_running_loop()
    told: list[str | None] = []

    @step_handler("waits")
    async def waits(context: StepContext) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append(context.cancelled.reason)

    @step_handler("waits")
    def waits_in_a_thread(context: StepContext) -> None:
        loop.call_soon_threadsafe(running.set)
        context.cancelled.wait(10)
        told.append(context.cancelled.reason)

    execution = start(waits if kind == "async" else waits_in_a_thread)
    waiting = asyncio.ensure_future(execution.end())
    await running.wait()
    waiting.cancel("lease lost")
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await execution.released
    assert told == ["lease lost"]


async def test_a_cancellation_of_the_handlers_own_making_is_worth_a_retry(run: Run) -> None:
    @step_handler("leaks")
    async def leaks() -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        inner.cancel()
        await inner

    result = await run(leaks)
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("handler_error", True)
    assert "cancellation" in result.error.message


async def test_a_cancellation_that_leaves_a_thread_is_worth_a_retry(run: Run) -> None:
    @step_handler("leaks")
    def leaks() -> None:
        raise asyncio.CancelledError

    result = await run(leaks)
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("handler_error", True)


async def test_a_closing_thread_pool_gives_the_step_back(new_context: NewContext) -> None:
    @step_handler("sync")
    def sync() -> None: ...

    handler = marked_handler(sync)
    assert handler is not None
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    result = (await sealed_by(Execution(handler, new_context(), timeout_seconds=1, executor=closed))).result
    assert result.error is not None
    assert (result.status, result.error.error_type) == (ResultStatus.ERROR, "semaphore_acquisition_failed")
    assert result.metadata.retryable is True


async def test_handlers_run_where_they_should_and_keep_the_callers_context(run: Run) -> None:
    request_id.set("r-1")

    @step_handler("sync")
    def sync() -> Any:
        return [threading.current_thread() is threading.main_thread(), request_id.get()]

    @step_handler("async")
    async def on_the_loop() -> Any:
        return [threading.current_thread() is threading.main_thread(), request_id.get()]

    @step_handler("both")
    def returns_an_awaitable() -> Awaitable[Any]:
        async def inner() -> Any:
            return [threading.current_thread() is threading.main_thread(), request_id.get()]

        return inner()

    assert (await run(sync)).result == {"result": [False, "r-1"]}
    assert (await run(on_the_loop)).result == {"result": [True, "r-1"]}
    assert (await run(returns_an_awaitable)).result == {"result": [True, "r-1"]}


async def test_sync_handlers_run_side_by_side(start: Start) -> None:
    together = threading.Barrier(3)

    @step_handler("meets")
    def meets() -> dict[str, Any]:
        together.wait(5)
        return {}

    results = await asyncio.gather(*[sealed_by(start(meets)) for _ in range(3)])
    assert [one.result.success for one in results] == [True, True, True]


async def test_a_handler_sees_its_deadline(run: Run) -> None:
    @step_handler("asks")
    async def asks(context: StepContext) -> dict[str, Any]:
        assert context.deadline is not None
        assert context.deadline.tzinfo is not None
        return {"left": context.remaining_seconds()}

    result = await run(asks, timeout_seconds=3)
    assert 2 < result.result["left"] <= 3


async def test_a_finished_handler_releases_its_slot(start: Start) -> None:
    @step_handler("quick")
    def quick() -> None: ...

    execution = start(quick)
    await execution.end()
    await asyncio.wait_for(execution.released, 1)


async def test_a_handler_stuck_behind_others_that_times_out_never_runs(new_context: NewContext) -> None:
    ran = threading.Event()
    finish = threading.Event()

    @step_handler("blocks")
    def blocks() -> None:
        finish.wait(10)

    @step_handler("queued")
    def queued() -> None:
        ran.set()

    first, second = marked_handler(blocks), marked_handler(queued)
    assert first is not None
    assert second is not None
    with ThreadPoolExecutor(1) as pool:
        blocking = Execution(first, new_context(), timeout_seconds=5, executor=pool)
        waiting = Execution(second, new_context(), timeout_seconds=0.05, executor=pool)
        assert (await sealed_by(waiting)).result.metadata.error_type == "handler_timeout"
        await waiting.released
        finish.set()
        await blocking.end()
    assert not ran.is_set()
