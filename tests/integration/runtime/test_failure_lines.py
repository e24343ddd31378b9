"""What the logs say of a step that fails."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from tasker.worker import PermanentError
from tests.integration.runtime.conftest import StartWorker
from tests.support.engine import Engine, chain
from tests.support.waiting import until
from tests.support.workshop import Workshop

DOCUMENT = chain(2, retry={"max_attempts": 2, "backoff": "linear", "backoff_base_ms": 5000})


def said(lines: list[Any], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event]


async def test_each_failed_attempt_has_a_line_and_so_has_what_becomes_of_it(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    def fail(context: Any) -> None:
        if context.attempt == 1:
            raise ConnectionError("the till does not answer")
        raise PermanentError("the card is declined")

    workshop.behaviours["s1"] = fail
    task = await engine.create(DOCUMENT)
    with capture_logs() as lines:
        await start_worker(DOCUMENT)
        for _ in range(2):
            await until(lambda: submitted(engine, task))
            await engine.process()
            await engine.move_clock(60)
            await engine.timers.tick()

    tried = said(lines, "step_attempt_failed")
    assert [
        (line["error_class"], line["error"], line["attempt"], line["max_attempts"], line["retryable"])
        for line in tried
    ] == [
        ("ConnectionError", "the till does not answer", 1, 2, True),
        ("PermanentError", "the card is declined", 2, 2, False),
    ]
    assert all(line["task_uuid"] == str(task) and line["step_name"] == "s1" for line in tried)
    assert "ConnectionError: the till does not answer" in tried[0]["traceback"]

    (again,) = said(lines, "step_retry_scheduled")
    assert (again["step_name"], again["attempt"], again["error"]) == ("s1", 1, "the till does not answer")
    assert again["retry_in_seconds"] > 0
    (over,) = said(lines, "step_failed_for_good")
    assert (over["error_type"], over["error"]) == ("permanent_error", "the card is declined")
    assert over["reason"]
    (blocked,) = said(lines, "task_blocked")
    assert (blocked["task_uuid"], blocked["namespace"], blocked["failed_steps"]) == (
        str(task),
        "test",
        ["s1"],
    )


async def test_what_succeeds_has_no_line(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    task = await engine.create(DOCUMENT)
    with capture_logs() as lines:
        await start_worker(DOCUMENT)

        async def complete() -> bool:
            return await engine.state(task) == "complete"

        await until(complete)
    assert [line["event"] for line in lines if line["log_level"] not in ("debug", "info")] == []


async def submitted(engine: Engine, task: Any) -> bool:
    return (await engine.states(task))["s1"] not in ("enqueued", "in_progress")
