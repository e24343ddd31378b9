"""Lines that handlers log in a worker say which step they are of, and the worker's own lines are not mixed up in it."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars
from structlog.testing import capture_logs

from tasker.telemetry.logs import get_logger
from tasker.worker import HandlerRegistry, RetryableError, StepContext
from tests.integration.runtime.conftest import StartWorker
from tests.support.engine import Engine, chain
from tests.support.waiting import until

DOCUMENT = chain(2, retry={"max_attempts": 2, "backoff": "linear", "backoff_base_ms": 1000})


async def test_each_line_is_of_the_step_and_the_attempt_that_wrote_it(
    engine: Engine, start_worker: StartWorker
) -> None:
    log, done = structlog.get_logger(), []

    async def work(context: StepContext) -> None:
        bind_contextvars(mine=context.step_name)
        await asyncio.gather(own(), asyncio.to_thread(log.info, "in a thread"))
        context.logger.info("by the context")
        if context.attempt == 1:
            raise RetryableError("not yet")
        done.append(context)

    async def own() -> None:
        log.info("in a task")

    registry = HandlerRegistry()
    registry.register(work, name="work")
    task = await engine.create(DOCUMENT)
    with capture_logs(processors=[merge_contextvars]) as lines:
        await start_worker(DOCUMENT, registry=registry)

        async def both_ran() -> bool:
            await engine.process()
            await engine.move_clock(60)
            await engine.timers.tick()
            return len(done) == 2

        await until(both_ran)
        get_logger("test").info("outside")

    steps = {context.step_name: context for context in done}
    said: dict[str, list[tuple[str, int]]] = {}
    for line in lines:
        if line["event"] in ("in a thread", "in a task", "by the context"):
            step = steps[line["step_name"]]
            assert ids(line) == (str(step.correlation_id), str(task), str(step.step_uuid))
            assert line["mine"] == line["step_name"]
            said.setdefault(line["event"], []).append((line["step_name"], line["attempt"]))
    runs = [("s1", 1), ("s1", 2), ("s2", 1), ("s2", 2)]
    assert said == {"in a thread": runs, "in a task": runs, "by the context": runs}
    failed = [line for line in lines if line["event"] in ("step_attempt_failed", "outside")]
    assert len(failed) == 3
    assert all("mine" not in line for line in failed)
    assert ids(failed[-1]) == (None, None, None)


def ids(line: Any) -> tuple[Any, Any, Any]:
    return line.get("correlation_id"), line.get("task_uuid"), line.get("step_uuid")
