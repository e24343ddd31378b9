"""Acting on many tasks: those that are named, or those that match, and never without a word."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tasker.client import Task, TaskerClient, TaskState
from tasker.orchestration.service import OrchestrationService
from tests.support.commands import Ended, tasker
from tests.support.engine import chain
from tests.support.waiting import within
from tests.support.workshop import Gate, Workshop

Call = Callable[..., Awaitable[Ended]]


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(2), chain(1) | {"name": "other"}]


@pytest.fixture
def call(client: TaskerClient, orchestration: OrchestrationService, tmp_path: Path) -> Call:
    """Run a command that finds the service by itself."""

    def run(*arguments: str) -> Awaitable[Ended]:
        return tasker("task", *arguments, cwd=tmp_path, TASKER_ADDRESS=orchestration.address)

    return run


@pytest.fixture
async def tasks(client: TaskerClient, workshop: Workshop) -> AsyncIterator[list[Task]]:
    """Eleven tasks that wait behind a gate, and one of another template."""
    workshop.behaviours["s1"] = gate = Gate()
    tasks = [await client.create("test", "workflow", tags=[f"t{number % 2}"]) for number in range(11)]
    tasks.append(await client.create("test", "other"))
    await within(gate.entered.wait())
    yield tasks
    gate.opened.set()


async def states(client: TaskerClient) -> list[TaskState]:
    return [task.state async for task in client.list(ascending=True)]


async def test_what_matches_is_told_and_left_alone(
    call: Call, client: TaskerClient, tasks: list[Task]
) -> None:
    before = await states(client)
    ended = await call("cancel", "--name", "workflow")
    assert ended.code == 2
    assert ended.err == "error: 11 tasks to cancel; nothing was done: repeat the command with --yes\n"
    assert {line.split()[0] for line in ended.out.splitlines()[1:]} == {
        str(task.task_uuid) for task in tasks[:11]
    }
    assert await states(client) == before
    program = await call("cancel", "--name", "workflow", "--json")
    assert (program.code, program.out, program.refusal["reason"]) == (2, "", "INVALID_ARGUMENT")


async def test_what_matches_is_acted_on(call: Call, client: TaskerClient, tasks: list[Task]) -> None:
    ended = await call("cancel", "--name", "workflow", "--tag", "t0", "--yes", "--reason", "a mistake")
    assert ended.code == 0
    assert ended.err == "6 tasks to cancel.\n"
    assert len(re.findall(r"^Task \S+ is cancelled\.$", ended.out, re.M)) == 6
    assert [state is TaskState.CANCELLED for state in await states(client)] == [True, False] * 5 + [
        True,
        False,
    ]


async def test_nothing_that_matches_is_no_failure(call: Call, tasks: list[Task]) -> None:
    for yes in ((), ("--yes",)):
        ended = await call("cancel", "--name", "nobody", *yes)
        assert (ended.code, ended.out, ended.err) == (0, "", "0 tasks to cancel.\n")


async def test_one_that_refuses_does_not_keep_the_others(call: Call, tasks: list[Task]) -> None:
    first, second = (str(task.task_uuid) for task in tasks[:2])
    nobody = f"{first[:-4]}0000"
    ended = await call("cancel", first, nobody, second)
    assert ended.code == 1
    one, refusal, other = ended.out.splitlines()
    assert (one, other) == (f"Task {first} is cancelled.", f"Task {second} is cancelled.")
    assert refusal.startswith(f"Task {nobody}: task {nobody} does not exist")
    again = await call("cancel", first, nobody, "--json")
    done, refused = again.objects
    assert (again.code, done["success"], done["task"]["state"]) == (1, False, "cancelled")
    assert (refused["task_uuid"], refused["error"]["code"]) == (nobody, "NOT_FOUND")


@pytest.mark.parametrize("which", [(), ("0198", "--failed")], ids=["nothing", "both"])
async def test_tasks_are_named_or_described(which: tuple[str, ...], call: Call) -> None:
    ended = await call("cancel", *which, "--yes")
    assert (ended.code, ended.out) == (2, "")
    assert (
        "name the tasks to cancel, or say with --failed, --state, --namespace or another filter" in ended.err
    )
