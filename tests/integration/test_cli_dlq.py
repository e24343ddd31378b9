"""`tasker dlq` as its users meet it: what waits for a person, and how it is closed."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest

from tasker.client import DlqEntry, ResolutionStatus, TaskerClient
from tasker.orchestration.service import OrchestrationService
from tasker.worker import PermanentError, StepContext
from tests.support.commands import Ended, tasker
from tests.support.engine import chain
from tests.support.workshop import Workshop

Call = Callable[..., Awaitable[Ended]]


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(1)]


@pytest.fixture
def call(client: TaskerClient, orchestration: OrchestrationService, tmp_path: Path) -> Call:
    """Run a command that finds the service by itself."""

    def run(*arguments: str) -> Awaitable[Ended]:
        return tasker("dlq", *arguments, cwd=tmp_path, TASKER_ADDRESS=orchestration.address)

    return run


def decline(context: StepContext) -> object:
    raise PermanentError("the bank declined")


@pytest.fixture
async def entries(client: TaskerClient, workshop: Workshop) -> list[DlqEntry]:
    """Entries of three blocked tasks, oldest first."""
    workshop.behaviours["s1"] = decline
    entries = []
    for _ in range(3):
        task = await client.create("test", "workflow")
        await client.wait(task.task_uuid, timeout=30)
        entries.append(await client.dlq.get(task.task_uuid))
    return entries


def tasks(ended: Ended) -> list[str]:
    assert (ended.code, ended.out.splitlines()[0].split()[0]) == (0, "TASK")
    return [line.split()[0] for line in ended.out.splitlines()[1:]]


async def test_nothing_waits(call: Call) -> None:
    assert (await call("queue")).out == "Nothing waits for a person.\n"
    assert (await call("list")).out == "No entry matches.\n"
    assert (await call("stats")).out == "There are no entries.\n"
    assert (await call("staleness")).out == "No task is open.\n"
    for command in ("queue", "list", "stats", "staleness"):
        ended = await call(command, "--json")
        assert (ended.code, ended.out, ended.err) == (0, "", "")


async def test_what_waits_is_listed(call: Call, entries: list[DlqEntry]) -> None:
    uuids = [str(entry.task_uuid) for entry in entries]
    assert tasks(await call("queue")) == uuids  # whoever waits longest comes first
    assert tasks(await call("list")) == uuids[::-1]
    two = await call("list", "--limit", "2", "--status", "pending", "--reason", "max_retries_exceeded")
    assert tasks(two) == uuids[:0:-1]
    assert "There are more" in two.err
    assert [entry["task_uuid"] for entry in (await call("queue", "--json")).objects] == uuids
    assert (await call("list", "--reason", "manual_dlq")).out == "No entry matches.\n"
    assert re.search(r"^max_retries_exceeded +3 +3 +0 +0 +0$", (await call("stats")).out, re.M)


@pytest.mark.parametrize("which", ["task_uuid", "dlq_entry_uuid"])
async def test_an_entry_is_shown(which: str, call: Call, entries: list[DlqEntry]) -> None:
    uuid = str(getattr(entries[1], which))
    for given in (uuid, uuid[:23]):
        shown = await call("show", given)
        assert shown.code == 0
        assert re.search(rf"^task +{entries[1].task_uuid}$", shown.out, re.M)
        assert re.search(r"^reason +max_retries_exceeded$", shown.out, re.M)
        assert re.search(r"^s1 +error +1/3 +permanent_error: the bank declined$", shown.out, re.M)
    (whole,) = (await call("show", uuid, "--json")).objects
    assert whole["task_snapshot"]["steps"][0]["name"] == "s1"


async def test_an_entry_is_closed(call: Call, client: TaskerClient, entries: list[DlqEntry]) -> None:
    task = str(entries[0].task_uuid)
    noted = await call("update", task, "--notes", "they call back", "--metadata", '{"ticket": 7}')
    assert (noted.code, noted.out) == (0, f"The entry of task {task} (max_retries_exceeded) is pending.\n")
    entry = await client.dlq.get(task)
    assert (entry.resolution_notes, entry.metadata) == ("they call back", {"ticket": 7})
    closed = await call("update", task, "--status", "permanently_failed", "--json")
    assert [one["resolution_status"] for one in closed.objects] == ["permanently_failed"]
    entry = await client.dlq.get(task)
    assert (entry.resolution_status, entry.resolved_by) == (ResolutionStatus.PERMANENTLY_FAILED, getuser())
    again = await call("update", task, "--status", "cancelled", "--json")
    assert (again.code, again.refusal["code"]) == (2, "INVALID_ARGUMENT")
    assert task not in tasks(await call("queue"))


async def test_a_task_is_put_before_a_person(call: Call, client: TaskerClient) -> None:
    task = await client.create("test", "workflow")
    await client.wait(task.task_uuid, timeout=30)
    uuid = str(task.task_uuid)
    added = await call("add", uuid[:23], "--reason", "look at this", "--by", "ada")
    assert (added.code, added.out) == (0, f"The entry of task {uuid} (manual_dlq) is pending.\n")
    assert [one["created"] for one in (await call("add", uuid, "--reason", "again", "--json")).objects] == [
        False
    ]
    assert tasks(await call("queue")) == [uuid]


async def test_what_names_no_entry(call: Call, entries: list[DlqEntry]) -> None:
    uuid = str(entries[0].task_uuid)
    for nobody in (f"{uuid[:-4]}0000", f"{uuid[:23]}-0000"):
        ended = await call("show", nobody, "--json")
        assert (ended.code, ended.refusal["code"]) == (4, "NOT_FOUND")
    several = await call("update", uuid[:6], "--status", "cancelled", "--json")
    assert (several.code, several.out) == (2, "")
    assert all(str(entry.task_uuid) in several.refusal["message"] for entry in entries)
    foreign = await call("update", uuid, "--status", "foo")
    assert (foreign.code, "for '--status': 'foo' is not one of 'pending'," in foreign.err) == (2, True)
    nothing = await call("update", uuid)
    assert nothing.code == 2
    assert (
        "say what to write down: --status, --notes or --metadata (see tasker dlq update --help)"
        in nothing.err
    )
