"""`tasker step` as its users meet it: looking at steps, and acting on those that failed."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from getpass import getuser
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasker.client import StepState, TaskerClient, TaskState
from tasker.orchestration.service import OrchestrationService
from tasker.worker import PermanentError, RetryableError, StepContext
from tests.support.commands import Ended, tasker
from tests.support.engine import chain
from tests.support.workshop import Workshop

Call = Callable[..., Awaitable[Ended]]
WHY = ("--reason", "the bank said so")


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(2, retry={"max_attempts": 2, "backoff": "none"})]


@pytest.fixture
def call(client: TaskerClient, orchestration: OrchestrationService, tmp_path: Path) -> Call:
    """Run a command that finds the service by itself."""

    def run(*arguments: str) -> Awaitable[Ended]:
        return tasker("step", *arguments, cwd=tmp_path, TASKER_ADDRESS=orchestration.address)

    return run


def decline(context: StepContext) -> object:
    raise PermanentError("the bank\n declined", error_code="CARD_DECLINED")


@pytest.fixture
async def task(client: TaskerClient, workshop: Workshop) -> UUID:
    """A task whose first step has failed for good."""
    workshop.behaviours["s1"] = decline
    task = await client.create("test", "workflow")
    assert (await client.wait(task.task_uuid, timeout=30)).state is TaskState.BLOCKED_BY_FAILURES
    return task.task_uuid


async def test_steps_are_listed_with_why_they_failed(call: Call, task: UUID) -> None:
    ended = await call("list", str(task))
    first, second = ended.out.splitlines()[1:]
    assert first.split(maxsplit=3) == [
        "s1", "error", "1/2", "permanent_error CARD_DECLINED (PermanentError): the bank declined",
    ]  # fmt: skip
    assert second.split() == ["s2", "pending", "0/2"]
    whole = (await call("list", str(task), "--json")).objects
    assert whole[0]["failure"]["message"] == "the bank\n declined"
    assert [step["name"] for step in whole] == ["s1", "s2"]


async def test_a_step_is_shown_with_its_traceback_on_request(call: Call, task: UUID) -> None:
    ended = await call("show", str(task), "s1")
    assert ended.code == 0
    assert re.search(
        r"^failure +permanent_error CARD_DECLINED \(PermanentError\): the bank declined$", ended.out, re.M
    )
    assert re.search(r"^permanent +yes$", ended.out, re.M)
    assert "Traceback" not in ended.out
    assert __file__ not in ended.out
    traced = await call("show", str(task), "s1", "--traceback")
    assert traced.out.startswith(ended.out)
    assert f'File "{__file__}", line ' in traced.out
    (whole,) = (await call("show", str(task), "s1", "--json")).objects
    assert (whole["name"], whole["failure"]["error_class"]) == ("s1", "PermanentError")


async def test_the_next_try_is_told(call: Call, client: TaskerClient, workshop: Workshop) -> None:
    def wait(context: StepContext) -> object:
        raise RetryableError("the bank is closed", retry_after=3600)

    workshop.behaviours["s1"] = wait
    task = await client.create("test", "workflow")
    async with aclosing(client.watch(task.task_uuid, steps=True, from_start=True)) as updates:
        async for update in updates:
            if update.state is StepState.WAITING_FOR_RETRY:
                break
    uuid = str(task.task_uuid)
    (step,) = [step for step in await client.steps(uuid) if step.name == "s1"]
    assert step.next_retry_at is not None
    at = step.next_retry_at.astimezone().isoformat(" ", "seconds")
    reason = f"{at}: retryable_error (RetryableError): the bank is closed"
    assert f"next try at {reason}\n" in (await call("list", uuid)).out
    shown = (await call("show", uuid, "s1")).out
    assert re.search(rf"^next try +{re.escape(at)}$", shown, re.M)
    assert re.search(r"^permanent +no: another attempt may help$", shown, re.M)


@pytest.mark.parametrize("how", ["name", "uuid", "beginning"])
async def test_a_step_is_retried(
    how: str, call: Call, client: TaskerClient, workshop: Workshop, task: UUID
) -> None:
    uuid = str((await client.steps(task))[0].step_uuid)
    named = {"name": "s1", "uuid": uuid, "beginning": uuid[:30]}[how]
    del workshop.behaviours["s1"]
    ended = await call("retry", str(task), named, *WHY)
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(rf"Step s1 of task {task} is \w+\.\n", ended.out)
    assert (await client.wait(task, timeout=30)).state is TaskState.COMPLETE


async def test_a_step_is_resolved(call: Call, client: TaskerClient, task: UUID) -> None:
    ended = await call("resolve", str(task), "s1", *WHY, "--json")
    (step,) = ended.objects
    assert (ended.code, step["state"]) == (0, "resolved_manually")
    assert (await client.wait(task, timeout=30)).state is TaskState.COMPLETE


@pytest.mark.parametrize("result", ['{"payment": 9007199254740993}', "[1]", "null"])
async def test_a_step_is_completed_with_any_result(
    result: str, call: Call, client: TaskerClient, task: UUID
) -> None:
    ended = await call(
        "complete", str(task), "s1", "--result", result, "--metadata", '{"ticket": 7}', *WHY, "--by", "ada"
    )
    assert (ended.code, ended.out) == (0, f"Step s1 of task {task} is complete.\n")
    step = (await client.wait(task, timeout=30)).step("s1")
    assert (step.state, step.result) == (StepState.COMPLETE, json.loads(result))
    assert step.results is not None
    assert step.results["metadata"]["custom"] == {
        "ticket": 7, "manually_completed": True, "completed_by": "ada", "completion_reason": "the bank said so",
    }  # fmt: skip


async def test_who_acted_and_why_is_told(
    call: Call, task: UUID, orchestration: OrchestrationService, tmp_path: Path
) -> None:
    (before,) = (await call("show", str(task), "s1", "--json")).objects
    assert before["last_intervention"] is None
    assert "by hand" not in (await call("show", str(task), "s1")).out
    await call("complete", str(task), "s1", "--result", "{}", *WHY, "--by", "ada")
    (after,) = (await call("show", str(task), "s1", "--json")).objects
    command = "task", "audit", str(task), "s1", "--json"
    ended = await tasker(*command, cwd=tmp_path, TASKER_ADDRESS=orchestration.address)
    result, act = ended.objects
    assert (result["attempt"], result["success"]) == (1, False)
    assert (act["step_name"], act["action"], act["performed_by"], act["reason"], act["to_state"]) == (
        "s1", "complete_manually", "ada", "the bank said so", "complete",
    )  # fmt: skip
    assert after["last_intervention"] == {
        key: value for key, value in act.items() if key not in ("task_uuid", "step_uuid", "step_name")
    }


async def test_who_acts_is_who_is_logged_in(call: Call, client: TaskerClient, task: UUID) -> None:
    await call("complete", str(task), "s1", "--result", "{}", *WHY)
    step = (await client.wait(task, timeout=30)).step("s1")
    assert step.results is not None
    assert step.results["metadata"]["custom"]["completed_by"] == getuser()


async def test_what_cannot_be_done_is_told(call: Call, task: UUID) -> None:
    waiting = await call("retry", str(task), "s2", *WHY, "--json")
    assert (waiting.code, waiting.out) == (2, "")
    assert "pending" in waiting.refusal["message"]
    nobody = await call("retry", str(task), "s3", *WHY)
    assert (nobody.code, nobody.err) == (4, "error: the task has no step 's3'; it has s1, s2\n")
    gone = await call("show", f"{str(task)[:-4]}0000", "s1", "--json")
    assert (gone.code, gone.refusal["code"]) == (4, "NOT_FOUND")
    for wrong in (("retry", str(task), "s1"), ("complete", str(task), "s1", *WHY)):
        ended = await call(*wrong)
        assert (ended.code, ended.out) == (2, "")
        assert re.search(r"Missing option '--(reason|result)'", ended.err)
