"""Why something failed, where a person looks first; and what is long, short in tables and whole in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tasker.client import StepState, Task, TaskerClient
from tasker.orchestration.service import OrchestrationService
from tasker.worker import PermanentError, RetryableError, StepContext
from tests.support.commands import Ended, on_terminal, running, tasker
from tests.support.engine import chain
from tests.support.workshop import Gate, Workshop

Call = Callable[..., Awaitable[Ended]]

DECLINED = "permanent_error CARD_DECLINED (PermanentError): the bank declined"


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(2, retry={"max_attempts": 2, "backoff": "none"})]


@pytest.fixture
def call(client: TaskerClient, orchestration: OrchestrationService, tmp_path: Path) -> Call:
    """Run a command that finds the service by itself."""

    def run(*arguments: str) -> Awaitable[Ended]:
        return tasker("task", *arguments, cwd=tmp_path, TASKER_ADDRESS=orchestration.address)

    return run


def decline(context: StepContext) -> object:
    raise PermanentError("the bank declined", error_code="CARD_DECLINED")


def close(context: StepContext) -> object:
    raise RetryableError("the bank is closed", retry_after=3600)


async def settled(client: TaskerClient, context: dict[str, Any] | None = None) -> Task:
    task = await client.create("test", "workflow", context or {})
    return await client.wait(task.task_uuid, timeout=30)


async def waiting(client: TaskerClient) -> tuple[Task, str]:
    """Return a task whose first step waits for its second attempt, and when that will be."""
    task = await client.create("test", "workflow", {"waits": True})
    async with aclosing(client.watch(task.task_uuid, steps=True, from_start=True)) as updates:
        async for update in updates:
            if update.state is StepState.WAITING_FOR_RETRY:
                break
    step, _ = await client.steps(task.task_uuid)
    assert step.next_retry_at is not None
    return task, step.next_retry_at.astimezone().isoformat(" ", "seconds")


async def test_failed_tasks_are_listed_with_why(call: Call, client: TaskerClient, workshop: Workshop) -> None:
    good = await settled(client)
    workshop.behaviours["s1"] = decline
    bad = await settled(client, {"n": 1})
    ended = await call("list", "--failed")
    (line,) = ended.out.splitlines()[1:]
    assert line.startswith(str(bad.task_uuid))
    assert line.endswith(f"  step s1 failed in attempt 1 of 2, for good: {DECLINED}")
    assert [task["task_uuid"] for task in (await call("list", "--failed", "--json")).objects] == [
        str(bad.task_uuid)
    ]
    both = (await call("list")).out.splitlines()
    assert both[0].endswith("  WHY")
    assert both[2].startswith(str(good.task_uuid))
    nothing = (await call("list", "--state", "complete")).out.splitlines()
    assert nothing[0].endswith("  CREATED")


async def test_a_failed_task_says_why_it_failed(call: Call, client: TaskerClient, workshop: Workshop) -> None:
    workshop.behaviours["s1"] = decline
    uuid = str((await settled(client)).task_uuid)
    for command in ("get", "summary"):
        shown = (await call(command, uuid)).out
        assert re.search(
            rf"^failure +step s1 failed in attempt 1 of 2, for good: {re.escape(DECLINED)}$", shown, re.M
        )
        assert re.search(rf"^s1 +(work +)?error +1/2 +{re.escape(DECLINED)}$", shown, re.M)
    summary = (await call("summary", uuid)).out
    assert re.search(r"^DLQ entry +max_retries_exceeded; it waits for a person$", summary, re.M)
    (whole,) = (await call("summary", uuid, "--json")).objects
    assert (whole["in_dlq"], whole["failure"]["step_failure"]["error_code"]) == (True, "CARD_DECLINED")
    watched = (await call("watch", uuid)).out.splitlines()
    assert f"    {DECLINED}" in watched
    assert watched[-1] == f"step s1 failed in attempt 1 of 2, for good: {DECLINED}"


async def test_attempts_that_are_used_up_and_those_that_follow_are_told(
    call: Call, client: TaskerClient, workshop: Workshop
) -> None:
    workshop.behaviours["s1"] = close
    task, at = await waiting(client)
    shown = (await call("get", str(task.task_uuid))).out
    failed = "retryable_error (RetryableError): the bank is closed"
    assert f"failure      step s1 failed in attempt 1 of 2, next try at {at}: {failed}\n".split() == [
        word for line in shown.splitlines() if line.startswith("failure") for word in line.split()
    ]
    assert f"next try at {at}: {failed}\n" in shown[shown.index("STEP") :]


async def test_a_watch_tells_why_a_step_failed_while_it_waits(
    client: TaskerClient, orchestration: OrchestrationService, workshop: Workshop, tmp_path: Path
) -> None:
    workshop.behaviours["s1"] = close
    task, at = await waiting(client)
    where = {"cwd": tmp_path, "TASKER_ADDRESS": orchestration.address}
    reason = rf"next try at {re.escape(at)}: retryable_error \(RetryableError\): the bank is closed"
    watch = ("task", "watch", str(task.task_uuid))
    async with running(*watch, **where) as lines:  # type: ignore[arg-type]
        await lines.says(f"^    {reason}$")
    async with on_terminal(*watch, **where) as screen:  # type: ignore[arg-type]
        await screen.shows(r"↻ s1 +waiting_for_retry .*next try at")


async def test_a_cancelled_task_says_who_and_why(
    call: Call, client: TaskerClient, workshop: Workshop
) -> None:
    workshop.behaviours["s1"] = gate = Gate()
    task = await client.create("test", "workflow")
    await client.cancel(task.task_uuid, reason="a mistake", requested_by="ada")
    gate.opened.set()
    uuid = str(task.task_uuid)
    assert re.search(r"^cancelled +20\S+ \S+ by ada: a mistake$", (await call("get", uuid)).out, re.M)
    assert (await call("list")).out.splitlines()[1].endswith(" by ada: a mistake")
    watched = await call("watch", uuid)
    assert watched.code == 1
    assert watched.out.endswith(" by ada: a mistake\n")


async def test_every_attempt_is_in_the_audit(call: Call, client: TaskerClient, workshop: Workshop) -> None:
    tries = iter((close, None))

    def second_time_lucky(context: StepContext) -> object:
        if next(tries) is not None:
            raise RetryableError("the bank is closed")
        return {"paid": True}

    workshop.behaviours["s1"] = second_time_lucky
    uuid = str((await settled(client)).task_uuid)
    lines = [line.split()[2:] for line in (await call("audit", uuid)).out.splitlines()[1:]]
    assert [line[:3] for line in lines] == [
        ["s1", "1", "enqueued_as_error_for_orchestration"],
        ["s1", "2", "enqueued_for_orchestration"],
        ["s2", "1", "enqueued_for_orchestration"],
    ]
    assert lines[0][4:] == ["retryable_error", "(RetryableError):", "the", "bank", "is", "closed"]
    one = (await call("audit", uuid, "s2", "--json")).objects
    assert [(record["step_name"], record["result"]) for record in one] == [("s2", {"step": "s2"})]
    assert (await call("audit", uuid, "s3")).code == 4


async def test_a_context_is_shown_whole(call: Call, client: TaskerClient) -> None:
    long = "x" * 5000
    uuid = str((await settled(client, {"long": long})).task_uuid)
    whole = {"inputs": {"long": long}, "outputs": {"s1": {"step": "s1"}, "s2": {"step": "s2"}}}
    assert json.loads((await call("context", uuid)).out) == whole
    assert (await call("context", uuid, "--json")).objects == [whole]


async def test_what_is_long_is_short_in_tables_and_whole_in_json(
    call: Call, client: TaskerClient, workshop: Workshop
) -> None:
    long = "x" * 5000
    workshop.behaviours["s1"] = lambda context: {"long": long}

    def fail(context: StepContext) -> object:
        raise PermanentError(f"{long[:1500]}\nand more")

    workshop.behaviours["s2"] = fail
    uuid = str((await settled(client, {"long": long})).task_uuid)
    for command in (("get", uuid), ("steps", uuid), ("list",), ("summary", uuid)):
        assert max(map(len, (await call(*command)).out.splitlines())) < 1200
    shown = (await call("get", uuid)).out
    assert re.search(r"^context +\{\"long\": \"x+ \.\.\. \(5,012 characters\)$", shown, re.M)
    assert re.search(r"^s1 +complete +1/2 +\{\"long\": \"x+ \.\.\. \(5,012 characters\)$", shown, re.M)
    (task,) = (await call("get", uuid, "--json")).objects
    first, second = task["steps"]
    assert (task["context"]["long"], first["results"]["result"]["long"]) == (long, long)
    assert second["failure"]["message"] == f"{long[:1500]}\nand more"
