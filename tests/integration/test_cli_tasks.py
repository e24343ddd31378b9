"""`tasker task`, `template` and `health` as their users meet them: processes that call real services."""

from __future__ import annotations

import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasker.client import TaskerClient
from tasker.orchestration.service import OrchestrationService
from tasker.worker import PermanentError, StepContext
from tests.support.commands import Ended, Screen, on_terminal, tasker
from tests.support.engine import chain, diamond
from tests.support.waiting import within
from tests.support.workshop import Gate, Workshop

PICKY = chain(1) | {
    "name": "picky",
    "description": "takes even numbers",
    "input_schema": {
        "type": "object",
        "required": ["number"],
        "properties": {"number": {"type": "integer", "multipleOf": 2}, "name": {"type": "string"}},
    },
}
OLDER = chain(1) | {"version": "0.9.0"}

Call = Callable[..., Awaitable[Ended]]


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(2), OLDER, diamond() | {"name": "diamond"}, PICKY]


@pytest.fixture
def call(client: TaskerClient, orchestration: OrchestrationService, tmp_path: Path) -> Call:
    """Run a command that finds the service by itself."""

    def run(*arguments: str) -> Awaitable[Ended]:
        return tasker(*arguments, cwd=tmp_path, TASKER_ADDRESS=orchestration.address)

    return run


def decline(context: StepContext) -> object:
    raise PermanentError("the bank declined")


# Creating


async def test_a_task_is_created_with_all_that_can_be_said_of_it(call: Call, client: TaskerClient) -> None:
    cause, tie = uuid4(), uuid4()
    ended = await call(
        "task", "create", "test/workflow/1.0.0", "--context", '{"number": 9007199254740993}',
        "--idempotency-key", "k", "--priority", "-5", "--tag", "a", "--tag", "b", "--reason", "because",
        "--initiator", "ada", "--source-system", "web", "--correlation-id", str(tie),
        "--parent-correlation-id", str(cause), "--json",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    (shown,) = ended.objects
    task = await client.get(shown["task_uuid"])
    assert task.context == shown["context"] == {"number": 2**53 + 1}
    assert (task.version, task.priority, task.tags, task.reason) == ("1.0.0", -5, ("a", "b"), "because")
    assert (task.initiator, task.source_system) == ("ada", "web")
    assert (task.correlation_id, task.parent_correlation_id) == (tie, cause)


async def test_a_key_finds_the_task_again(call: Call) -> None:
    create = ("task", "create", "test/workflow", "--idempotency-key", "k")
    first, again = await call(*create), await call(*create)
    uuid = re.search(r"Task (\S+) ", first.out)
    assert uuid is not None
    assert first.out == f"Task {uuid[1]} (test/workflow:1.0.0) is created.\n"
    assert (
        again.out == f"Task {uuid[1]} (test/workflow:1.0.0) was created by an earlier call with this key.\n"
    )


async def test_a_context_comes_from_a_file(call: Call, client: TaskerClient, tmp_path: Path) -> None:
    (tmp_path / "context.json").write_text('{"number": 4}')
    ended = await call("task", "create", "test/picky", "--context", "@context.json", "--json")
    assert ended.objects[0]["context"] == {"number": 4}


async def test_waiting_shows_the_settled_task(call: Call) -> None:
    ended = await call("task", "create", "test/workflow", "--wait")
    assert ended.code == 0
    assert re.search(r"^state +complete$", ended.out, re.M)
    assert re.search(r'^s2 +complete +1/3 +\{"step": "s2"\}$', ended.out, re.M)
    assert "\x1b" not in ended.out


async def test_waiting_as_json_prints_the_settled_task_alone(call: Call) -> None:
    ended = await call("task", "create", "test/workflow", "--wait", "--json")
    (task,) = ended.objects
    assert (ended.code, task["state"], [step["name"] for step in task["steps"]]) == (
        0,
        "complete",
        ["s1", "s2"],
    )
    assert task["steps"][0]["results"]["result"] == {"step": "s1"}


@pytest.mark.parametrize("how", ["--wait", "--watch"])
async def test_a_task_that_fails_fails_the_command(how: str, call: Call, workshop: Workshop) -> None:
    workshop.behaviours["left"] = decline
    ended = await call("task", "create", "test/diamond", how)
    assert ended.code == 1
    assert "blocked_by_failures" in ended.out
    assert "the bank declined" in ended.out


async def test_watching_prints_each_change_once(call: Call) -> None:
    ended = await call("task", "create", "test/workflow", "--watch")
    told = [line.split("  ")[1:] for line in ended.out.splitlines()[1:]]
    assert ended.code == 0
    assert [state for kind, *names, state in told if names == ["s2"]] == [
        "enqueued", "in_progress", "enqueued_for_orchestration", "complete",
    ]  # fmt: skip
    assert [states for kind, *states in told if kind == "task"] == [["steps_in_process"], ["complete"]]


async def test_watching_as_json_prints_one_object_a_line(call: Call) -> None:
    ended = await call("task", "create", "test/workflow", "--watch", "--json")
    task, *updates = ended.objects
    assert (ended.code, task["type"], task["name"]) == (0, "task", "workflow")
    assert {update["type"] for update in updates} == {"step_update", "task_update"}
    assert (updates[-1]["state"], updates[-1]["is_last"]) == ("complete", True)


# Looking


async def test_a_task_is_watched_from_its_start(call: Call, client: TaskerClient, workshop: Workshop) -> None:
    workshop.behaviours["left"] = decline
    task = await client.create("test", "diamond")
    await client.wait(task.task_uuid, timeout=30)
    ended = await call("task", "watch", str(task.task_uuid))
    assert ended.code == 1
    assert re.search(r"  step  start  complete$", ended.out, re.M)
    assert "the bank declined" in ended.out.splitlines()[-1]


async def test_a_task_is_shown_with_its_steps(call: Call, client: TaskerClient) -> None:
    task = await client.create("test", "workflow", {"a": 1}, tags=["x", "[red]"], reason="two\x1b[31m")
    await client.wait(task.task_uuid, timeout=30)
    shown = await call("task", "get", str(task.task_uuid))
    assert shown.code == 0
    assert re.search(r"^tags +x, \[red\]$", shown.out, re.M)
    assert re.search(r"^reason +two\\x1b\[31m$", shown.out, re.M)
    assert re.search(r"^s1 +complete +1/3 ", shown.out, re.M)
    (one,) = (await call("task", "get", str(task.task_uuid), "--json")).objects
    assert (one["context"], len(one["steps"])) == ({"a": 1}, 2)
    steps = (await call("task", "steps", str(task.task_uuid), "--json")).objects
    assert [step["name"] for step in steps] == ["s1", "s2"]
    table = (await call("task", "steps", str(task.task_uuid))).out.splitlines()
    assert [line.split()[0] for line in table] == ["STEP", "s1", "s2"]


async def test_the_beginning_of_a_uuid_will_do(call: Call, client: TaskerClient) -> None:
    task = await client.create("test", "workflow")
    await client.wait(task.task_uuid, timeout=30)
    uuid = str(task.task_uuid)
    for command in ("get", "watch", "steps", "cancel"):
        short, whole = await call("task", command, uuid[:23]), await call("task", command, uuid)
        assert (short.code, short.out, short.err) == (whole.code, whole.out, "")
    others = [await client.create("test", "workflow") for _ in range(2)]  # of the same minute
    ended = await call("task", "get", uuid[:6], "--json")
    assert (ended.code, ended.out, ended.refusal["reason"]) == (2, "", "INVALID_ARGUMENT")
    assert all(str(one.task_uuid) in ended.refusal["message"] for one in (task, *others))
    nobody = await call("task", "get", f"{uuid[:23]}-0000", "--json")
    assert (nobody.code, nobody.out, nobody.refusal["code"]) == (4, "", "NOT_FOUND")


async def test_tasks_are_listed(call: Call, client: TaskerClient) -> None:
    created = [await client.create("test", "workflow", tags=[f"t{n}"], priority=n) for n in range(3)]
    other = await client.create("test", "diamond", initiator="ada")
    for task in (*created, other):
        await client.wait(task.task_uuid, timeout=30)

    def uuids(ended: Ended) -> list[str]:
        return [line.split()[0] for line in ended.out.splitlines()[1:]]

    everything = await call("task", "list")
    assert uuids(everything) == [str(task.task_uuid) for task in (other, *reversed(created))]
    assert re.search(r" test/diamond:1\.0\.0 +complete +4/4 ", everything.out)
    two = await call(
        "task", "list", "--limit", "2", "--name", "workflow", "--sort", "priority", "--ascending"
    )
    assert uuids(two) == [str(task.task_uuid) for task in created[:2]]
    assert "There are more" in two.err
    tagged = await call("task", "list", "--tag-any", "t0", "--tag-any", "t2", "--json", "--all")
    assert [task["tags"] for task in tagged.objects] == [["t2"], ["t0"]]
    assert [task["context"] for task in tagged.objects] == [{}, {}]
    by = ("--initiator", "ada", "--state", "complete", "--state", "error", "--created-after", "1h")
    assert uuids(await call("task", "list", *by)) == [str(other.task_uuid)]
    nothing = await call("task", "list", "--created-before", "1h")
    assert (nothing.code, nothing.out) == (0, "No task matches.\n")
    assert (await call("task", "list", "--created-before", "1h", "--json")).out == ""


async def test_templates_are_listed_and_shown(call: Call) -> None:
    listed = (await call("template", "list")).out.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [
        ["test/diamond", "1.0.0", "4"],
        ["test/picky", "1.0.0", "1"],
        ["test/workflow", "1.0.0", "2"],
        ["test/workflow", "0.9.0", "1"],
    ]
    assert len((await call("template", "list", "--namespace", "test", "--json")).objects) == 4
    assert (await call("template", "list", "--namespace", "none")).out == "No template is registered.\n"
    diamond = (await call("template", "show", "test/diamond")).out
    assert re.search(r"^end +standard +work +3 +left, right$", diamond, re.M)
    (workflow,) = (await call("template", "show", "test/workflow", "--json")).objects
    assert (workflow["version"], len(workflow["steps"])) == ("1.0.0", 2)
    picky = (await call("template", "show", "test/picky/1.0.0")).out
    assert "takes even numbers" in picky
    assert '"multipleOf": 2' in picky


async def test_health(call: Call) -> None:
    detailed = await call("health")
    assert detailed.code == 0
    assert re.search(r"^queue_depth +healthy ", detailed.out, re.M)
    (ready,) = (await call("health", "--probe", "ready", "--json")).objects
    assert ready["status"] == "ready"
    basic = await call("health", "--probe", "basic")
    assert (basic.code, basic.out) == (0, "status  healthy\n")


# Cancelling


async def test_a_task_is_cancelled(call: Call, client: TaskerClient, workshop: Workshop) -> None:
    workshop.behaviours["s1"] = gate = Gate()
    task = await client.create("test", "workflow")
    await within(gate.entered.wait())
    cancel = ("task", "cancel", str(task.task_uuid))
    done = await call(*cancel, "--reason", "a mistake", "--requested-by", "ada")
    assert (done.code, done.out) == (0, f"Task {task.task_uuid} is cancelled.\n")
    again = await call(*cancel)
    assert again.code == 0
    assert again.out.startswith("Nothing was cancelled: ")
    waited = await call("task", "watch", str(task.task_uuid), "--json")
    assert (waited.code, waited.objects[-1]["state"]) == (1, "cancelled")
    gate.opened.set()


async def test_a_task_that_is_over_is_not_cancelled(call: Call, client: TaskerClient) -> None:
    task = await client.create("test", "workflow")
    await client.wait(task.task_uuid, timeout=30)
    ended = await call("task", "cancel", str(task.task_uuid), "--json")
    (answer,) = ended.objects
    assert (ended.code, answer["success"], answer["task"]["state"]) == (1, False, "complete")
    assert "complete" in answer["message"]


# On a terminal

Show = Callable[..., AbstractAsyncContextManager[Screen]]


@pytest.fixture
def show(client: TaskerClient, orchestration: OrchestrationService, tmp_path: Path) -> Show:
    """Run a command on a terminal."""

    def run(*arguments: str, **settings: str) -> AbstractAsyncContextManager[Screen]:
        return on_terminal(*arguments, cwd=tmp_path, TASKER_ADDRESS=orchestration.address, **settings)

    return run


async def test_the_graph_moves_on_a_terminal(show: Show, workshop: Workshop) -> None:
    workshop.behaviours["right"] = gate = Gate()
    async with show("task", "create", "test/diamond", "--watch") as screen:
        await screen.shows(r"2 +✔ left +complete +\d+ ms\s+● right +in_progress +\d\.\d s")
        await screen.shows(r"3 +· end +pending +after left, right")
        gate.opened.set()
        ended = await screen.ended()
    last = screen.text[screen.text.rindex("task 0") :]
    assert ended.code == 0
    assert "\x1b[32m" in ended.out
    assert "complete  4/4 steps" in last
    assert re.search(r"3 +✔ end +complete +\d+ ms", last)


async def test_a_failure_is_told_below_the_picture(show: Show, workshop: Workshop) -> None:
    workshop.behaviours["left"] = decline
    async with show("task", "create", "test/diamond", "--watch") as screen:
        assert (await screen.ended()).code == 1
    last = screen.text[screen.text.rindex("task 0") :]
    assert re.search(r"✘ left +error", last)
    assert "the bank declined" in last


async def test_waiting_has_a_bar_on_a_terminal(show: Show, workshop: Workshop) -> None:
    workshop.behaviours["s2"] = gate = Gate({"slow": True})
    async with show("task", "create", "test/workflow", "--wait") as screen:
        await screen.shows(r"steps_in_process .* 1/2 ")
        gate.opened.set()
        assert (await screen.ended()).code == 0
    assert re.search(r'\ns2 +complete +1/3 +\{"slow": true\}', screen.text)


async def test_ctrl_c_leaves_the_terminal_as_it_was(show: Show, workshop: Workshop) -> None:
    workshop.behaviours["s1"] = gate = Gate()
    async with show("task", "create", "test/workflow", "--watch") as screen:
        await screen.shows("in_progress")
        screen.send(signal.SIGINT)
        ended = await screen.ended()
    gate.opened.set()
    assert ended.code == 130
    assert "Traceback" not in ended.out
    assert ended.out.rindex("\x1b[?25h") > ended.out.rindex("\x1b[?25l")  # the cursor is back


async def test_no_color_and_json_are_heeded_on_a_terminal(show: Show) -> None:
    colours = re.compile(r"\x1b\[[0-9;]*3[0-9]m")
    async with show("health") as plain, show("health", NO_COLOR="1") as grey:
        assert colours.search((await plain.ended()).out)
        assert not colours.search((await grey.ended()).out)
    async with show("task", "create", "test/workflow", "--watch", "--json") as screen:
        ended = await screen.ended()
    assert "\x1b" not in ended.out
    assert ended.objects[0]["type"] == "task"
