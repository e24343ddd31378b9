"""What handlers may do to the process without ending it, or changing other handlers."""

from __future__ import annotations

import asyncio
import decimal
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from tasker.worker import StepContext, step_handler
from tasker.worker.handlers.threads import HandlerThreads
from tests.unit.handlers.conftest import Run


async def leave() -> None:
    sys.exit(3)


async def interrupt() -> None:
    raise KeyboardInterrupt


async def in_gather(part: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(asyncio.sleep(0), part())


async def in_group(part: Callable[[], Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(part())


async def in_time(part: Callable[[], Awaitable[None]]) -> None:
    await asyncio.wait_for(part(), 10)


async def in_task(part: Callable[[], Any]) -> None:
    await asyncio.create_task(part(), name="part")


@pytest.mark.parametrize("how", [in_gather, in_group, in_time, in_task])
@pytest.mark.parametrize(("part", "name"), [(leave, "SystemExit"), (interrupt, "KeyboardInterrupt")])
async def test_an_exit_in_a_part_of_a_handler_fails_its_step_and_nothing_else(
    run: Run, how: Callable[[Any], Awaitable[None]], part: Callable[[], Awaitable[None]], name: str
) -> None:
    @step_handler("leaves")
    async def leaves() -> None:
        await how(part)

    result = await run(leaves)  # on the loop that would have ended
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("handler_panic", False)
    assert result.error.message.startswith(f"{name} escaped from the handler")


async def test_an_exit_in_a_thread_of_a_handler_fails_its_step(run: Run) -> None:
    @step_handler("leaves")
    async def leaves() -> None:
        await asyncio.to_thread(sys.exit, 4)

    result = await run(leaves)
    assert result.error is not None
    assert result.error.message == "SystemExit escaped from the handler: 4"


async def test_a_handler_may_deal_with_the_exit_of_a_part(run: Run) -> None:
    @step_handler("copes")
    async def copes() -> dict[str, Any]:
        (_, came) = await asyncio.gather(asyncio.sleep(0), leave(), return_exceptions=True)
        return {"came": type(came).__name__}

    assert (await run(copes)).result == {"came": "HandlerExit"}


async def test_tasks_of_others_are_made_as_before(run: Run) -> None:
    @step_handler("works")
    async def works() -> None: ...

    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **options)

    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    try:
        await run(works)
        await asyncio.create_task(leave_not())
    finally:
        loop.set_task_factory(before)
    assert made[-1] == "leave_not"


async def leave_not() -> None: ...


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_arithmetic_that_one_handler_changes_is_unchanged_for_the_next(run: Run, kind: str) -> None:
    def rough(context: StepContext) -> dict[str, Any]:
        seen = decimal.getcontext().prec
        decimal.getcontext().prec = 3
        return {"prec": seen}

    async def rough_too(context: StepContext) -> dict[str, Any]:
        return rough(context)

    handler = step_handler("rough")(rough if kind == "sync" else rough_too)
    usual = decimal.getcontext().prec
    assert [(await run(handler)).result for _ in range(2)] == [{"prec": usual}] * 2
    assert decimal.getcontext().prec == usual


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_context_variables_that_a_handler_sets_are_unset_for_the_next(run: Run, kind: str) -> None:
    customer: ContextVar[str | None] = ContextVar("customer", default=None)

    def remember() -> dict[str, Any]:
        seen = customer.get()
        customer.set("acme")
        return {"seen": seen}

    async def remember_too() -> dict[str, Any]:
        return remember()

    handler = step_handler("remembers")(remember if kind == "sync" else remember_too)
    assert [(await run(handler)).result for _ in range(2)] == [{"seen": None}] * 2


def test_an_event_loop_that_is_set_in_a_thread_is_not_there_for_the_next_step() -> None:
    loop = asyncio.new_event_loop()
    try:
        with HandlerThreads(1) as threads:
            threads.submit(asyncio.set_event_loop, loop).result()
            with pytest.raises(RuntimeError, match="no current event loop"):
                threads.submit(asyncio.get_event_loop).result()
    finally:
        loop.close()
