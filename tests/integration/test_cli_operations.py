"""`tasker queue`, `template` and `system` as those use them who look after a deployment."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasker.client import TaskerClient, TaskState
from tasker.orchestration.service import OrchestrationService
from tasker.worker import PermanentError, StepContext
from tests.support.commands import Ended, tasker
from tests.support.engine import Engine, chain
from tests.support.faults import refuse, send_by_hand
from tests.support.waiting import until, within
from tests.support.workshop import Gate, Workshop

Call = Callable[..., Awaitable[Ended]]
WHY = ("--reason", "the bank moves", "--by", "ada")


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [chain(1), chain(1) | {"version": "1.1.0"}]


@pytest.fixture
def call(client: TaskerClient, orchestration: OrchestrationService, tmp_path: Path) -> Call:
    """Run a command that finds the service by itself."""

    def run(*arguments: str) -> Awaitable[Ended]:
        return tasker(*arguments, cwd=tmp_path, TASKER_ADDRESS=orchestration.address)

    return run


# Queues


async def test_a_namespace_is_paused_and_resumed(call: Call, client: TaskerClient) -> None:
    paused = await call("queue", "pause", "test", *WHY)
    assert paused.code == 0
    assert re.fullmatch(r"Namespace test is paused since .* by ada: the bank moves\n", paused.out)
    task = await client.create("test", "workflow")
    listed = (await call("queue", "list", "--namespace", "test")).out
    assert re.search(
        r"^worker_test_queue +test +normal +1 +0 .* 1 +\S+ \S+ by ada: the bank moves$", listed, re.M
    )
    (queue,) = (await call("queue", "list", "--namespace", "test", "--json")).objects
    assert (queue["name"], queue["visible"], queue["pause"]["reason"]) == (
        "worker_test_queue", 1, "the bank moves",
    )  # fmt: skip
    assert (await call("queue", "resume", "test")).out == "Namespace test goes on.\n"
    assert (await client.wait(task.task_uuid, timeout=30)).state is TaskState.COMPLETE
    again = await call("queue", "resume", "test", "--json")
    assert again.objects == [{"namespace": "test", "changed": False}]


async def test_queues_of_orchestration_are_listed_too(call: Call) -> None:
    ended = await call("queue", "list")
    assert ended.code == 0
    assert re.search(r"^orchestration_step_results +0 +0$", ended.out, re.M)
    assert (await call("queue", "list", "--namespace", "nobody")).out == "No queue matches.\n"
    missing = await call("queue", "pause", "nobody", *WHY, "--json")
    assert (missing.code, missing.refusal["code"]) == (4, "NOT_FOUND")


async def test_poison_is_listed_and_its_step_runs_again(
    call: Call, client: TaskerClient, engine: Engine
) -> None:
    assert (await call("queue", "poison")).out == "No message is poison.\n"
    await refuse(engine, "tasker.workflow_steps", "NEW.name = 's1' AND NEW.state = 'complete'")
    task = await client.create("test", "workflow")
    await client.wait(task.task_uuid, timeout=30)
    await send_by_hand(engine, "orchestration_step_results", {"step": "of nobody"})
    await until(lambda: _poison(client, 2))
    listed = (await call("queue", "poison")).out.splitlines()[1:]
    assert ["does not name a task and a step" in line for line in listed] == [True, False]
    (message,) = (await call("queue", "poison", "--task", str(task.task_uuid)[:23], "--json")).objects
    assert (message["task_uuid"], message["step_state"]) == (str(task.task_uuid), "error")
    await engine.database.execute("DROP TRIGGER refuse_0 ON tasker.workflow_steps")
    ended = await call("queue", "requeue", str(message["poison_id"]), *WHY)
    assert (ended.code, ended.out) == (
        0, f"Step {message['step_uuid']} runs again: task {task.task_uuid} is steps_in_process.\n",
    )  # fmt: skip
    assert (await client.wait(task.task_uuid, timeout=30)).state is TaskState.COMPLETE
    nameless = await call("queue", "requeue", listed[0].split()[0], *WHY, "--json")
    assert (nameless.code, nameless.refusal["code"]) == (2, "FAILED_PRECONDITION")


async def _poison(client: TaskerClient, count: int) -> bool:
    return len([message async for message in client.operations.poison()]) == count


# Versions of templates


async def test_a_version_is_taken_out_of_use_and_back(call: Call, client: TaskerClient) -> None:
    out = await call("template", "deactivate", "test/workflow/1.1.0", *WHY)
    assert out.out == "Template test/workflow:1.1.0 is out of use, with 0 open tasks; 1.0.0 is the default.\n"
    versions = (await call("template", "versions", "test/workflow")).out
    assert re.search(r"^1\.1\.0 +inactive +0 .* since .* by ada: the bank moves$", versions, re.M)
    assert re.search(r"^1\.0\.0 +default +0 ", versions, re.M)
    assert (await client.create("test", "workflow", {"n": 1})).version == "1.0.0"
    refused = await call("task", "create", "test/workflow/1.1.0")
    assert refused.code != 0
    assert "1.0.0" in refused.err
    last = await call("template", "deactivate", "test/workflow/1.0.0", *WHY)
    assert last.out.endswith("; no version is in use, so no task can be created.\n")
    (chosen,) = (await call("template", "activate", "test/workflow/1.1.0", *WHY, "--json")).objects
    assert (chosen["version"]["active"], chosen["default_version"]) == (True, "1.1.0")


async def test_what_names_no_version(call: Call) -> None:
    for verb in ("activate", "deactivate"):
        ended = await call("template", verb, "test/workflow", *WHY)
        assert (ended.code, ended.out) == (2, "")
        assert "say which version, as in test/workflow/1.0.0" in ended.err
        ended = await call("template", verb, "test/workflow/9.9.9", *WHY)
        assert (ended.code, ended.out) == (4, "")
    assert (await call("template", "versions", "test/nothing")).code == 4


async def test_templates_are_registered(call: Call, client: TaskerClient, tmp_path: Path) -> None:
    new = [chain(1) | {"version": f"2.{minor}.0"} for minor in range(2)]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "both.yaml").write_text(yaml.safe_dump_all(new))
    ended = await call("template", "register", "new")
    assert (ended.code, ended.out.splitlines()) == (
        0, [f"Template test/workflow:2.{minor}.0 is registered." for minor in range(2)],
    )  # fmt: skip
    again = await call("template", "register", "new/both.yaml", "--json")
    assert [(one["version"]["version"], one["changed"]) for one in again.objects] == [
        ("2.0.0", False), ("2.1.0", False),
    ]  # fmt: skip
    newest, *_ = await client.registry.versions("test", "workflow")
    assert newest.version == "2.1.0"


async def test_of_templates_with_errors_none_is_registered(
    call: Call, client: TaskerClient, tmp_path: Path
) -> None:
    new = [chain(1) | {"version": "3.0.0"}, chain(1) | {"version": "three"}]
    (tmp_path / "both.yaml").write_text(yaml.safe_dump_all(new))
    ended = await call("template", "register", "both.yaml")
    assert ended.code == 1
    assert re.search(r"^both\.yaml:\d+: error INVALID_VERSION: ", ended.out, re.M)
    good, bad = (await call("template", "register", "both.yaml", "--json")).objects
    assert (good["valid"], bad["valid"]) == (True, False)
    assert {version.version for version in await client.registry.versions("test", "workflow")} == {
        "1.0.0", "1.1.0",
    }  # fmt: skip


# The system


async def test_how_work_went(call: Call, client: TaskerClient, workshop: Workshop) -> None:
    for number in range(5):
        await client.wait((await client.create("test", "workflow", {"n": number})).task_uuid, timeout=30)

    def fail(context: StepContext) -> object:
        raise PermanentError("no")

    workshop.behaviours["s1"] = fail
    await client.wait((await client.create("test", "workflow")).task_uuid, timeout=30)
    metrics = (await call("system", "metrics", "--hours", "1")).out
    assert re.search(r"^completed +5 \(83\.3%\)$", metrics, re.M)
    assert re.search(r"^failed +1 \(16\.7%\)$", metrics, re.M)
    (figures,) = (await call("system", "metrics", "--hours", "1", "--json")).objects
    assert (figures["total"], figures["completed"], figures["failed"]) == (6, 5, 1)
    slow = (await call("system", "bottlenecks")).out
    assert re.search(r"^s1 +test/workflow:1\.1\.0 +\S+ \w+ +\S+ \w+ +6 +1$", slow, re.M)
    assert re.search(r"^tasks +.*5 complete", slow, re.M)
    (found,) = (
        await call("system", "bottlenecks", "--limit", "1", "--min-executions", "7", "--json")
    ).objects
    assert found["steps"] == []


async def test_settings_are_shown(call: Call) -> None:
    ended = await call("system", "config")
    assert ended.code == 0
    assert re.search(r"^auth +off$", ended.out, re.M)
    assert re.search(r"^queues +.*orchestration_step_results", ended.out, re.M)
    (config,) = (await call("system", "config", "--json")).objects
    assert config["auth"]["enabled"] is False


# Tasks that are stuck


async def test_a_task_is_resumed_or_requeued_only_where_that_helps(
    call: Call, client: TaskerClient, workshop: Workshop
) -> None:
    workshop.behaviours["s1"] = gate = Gate()
    task = await client.create("test", "workflow")
    await within(gate.entered.wait())
    sent = await call("task", "requeue", str(task.task_uuid), *WHY)
    assert (sent.code, sent.out) == (0, f"Task {task.task_uuid}: 0 messages sent again.\n")
    for verb in ("resume", "retry"):
        ended = await call("task", verb, str(task.task_uuid), *WHY, "--json")
        assert (ended.code, ended.refusal["code"]) == (2, "INVALID_ARGUMENT")
    gate.opened.set()
