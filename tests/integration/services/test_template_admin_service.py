"""TemplateAdminService over a channel: registering, checking, and choosing versions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from grpc import StatusCode

from tasker.client import (
    FailedPreconditionError,
    InvalidArgumentError,
    NewTask,
    NotFoundError,
    TaskerClient,
    TaskState,
)
from tasker.domain.templates.document import digest
from tasker.domain.templates.loading import MAX_DOCUMENT_BYTES
from tasker.domain.templates.validation import parse
from tasker.orchestration.service import OrchestrationService
from tasker.v1 import common_pb2, template_admin_pb2, template_admin_pb2_grpc
from tests.support import services
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain
from tests.support.rivals import at_once, rival
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.support.workshop import Workshop

WHO: dict[str, Any] = {"requested_by": "anna", "reason": "it charges twice"}


@pytest.fixture
async def client(orchestration: OrchestrationService) -> AsyncIterator[TaskerClient]:
    async with TaskerClient(orchestration.address) as client:
        yield client


def version(number: str, length: int = 1, **more: Any) -> dict[str, Any]:
    return chain(length) | {"version": number} | more


async def tables(engine: Engine) -> list[int]:
    """Return how many rows the tables of templates have."""
    return [
        (await engine.sql(f"SELECT count(*) FROM tasker.{table}"))[0][0]
        for table in ("task_namespaces", "named_tasks", "template_revisions")
    ]


# registering


@pytest.mark.parametrize("write", [yaml.safe_dump, json.dumps], ids=["yaml", "json"])
async def test_a_template_is_registered_from_text(client: TaskerClient, engine: Engine, write: Any) -> None:
    document = version("1.2.0", 2)
    registered = await client.registry.register(write(document))
    assert registered.changed
    found = registered.version
    assert (found.namespace, found.name, found.version) == ("test", "workflow", "1.2.0")
    assert (found.active, found.is_default, found.open_tasks) == (True, True, 0)
    assert found.digest == digest(parse(document)).hex()  # as from a file
    task = await client.create("test", "workflow")
    await engine.run(task.task_uuid)
    again = await client.registry.register(document)
    assert (again.changed, again.version.digest) == (False, found.digest)


async def test_everything_wrong_is_told_as_of_a_file_and_nothing_is_written(
    client: TaskerClient, engine: Engine
) -> None:
    document = version("1.0") | {
        "steps": [{"name": "a", "handler": "work", "dependencies": ["b"]}, {"name": "a"}]
    }
    text = yaml.safe_dump(document)
    with pytest.raises(InvalidArgumentError) as refusal:
        await client.registry.register(text)
    assert refusal.value.reason == "TEMPLATE_INVALID"
    wrong = {violation.field for violation in refusal.value.violations}
    assert wrong >= {"version", "steps[0].dependencies[0]", "steps[1].handler"}
    check = await client.registry.validate(text)
    assert not check.valid
    assert {problem.path for problem in check.problems if problem.severity == "error"} == wrong
    missing = next(problem for problem in check.problems if problem.code == "MISSING_DEP_REF")
    assert missing.step == "a"
    assert missing.line is not None
    assert text.splitlines()[missing.line - 1].strip() == "- b"
    assert await tables(engine) == [0, 0, 0]


async def test_a_good_template_is_checked_without_being_registered(
    client: TaskerClient, engine: Engine
) -> None:
    check = await client.registry.validate(version("1.0.0", colour="red"))
    assert check.valid
    assert [(problem.code, problem.severity) for problem in check.problems if problem.path == "colour"] == [
        ("UNKNOWN_KEY", "warning")
    ]
    assert not (await client.registry.validate(version("1.0.0", colour="red"), strict=True)).valid
    assert await tables(engine) == [0, 0, 0]
    with pytest.raises(InvalidArgumentError, match="colour"):
        await client.registry.register(version("1.0.0", colour="red"), strict=True)
    registered = await client.registry.register(version("1.0.0", colour="red"))
    assert [warning.code for warning in registered.warnings] == ["UNKNOWN_KEY"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "required"),
        (" \n", "required"),
        ("# nothing\n", "holds no template"),
        ("name: a\n---\nname: b\n", "holds 2 documents"),
        ("x" * (MAX_DOCUMENT_BYTES + 1), f"takes {MAX_DOCUMENT_BYTES + 1} bytes"),
    ],
    ids=["empty", "blank", "comment", "two", "long"],
)
async def test_what_is_not_one_document_is_refused(client: TaskerClient, text: str, problem: str) -> None:
    for call in (client.registry.register(text), client.registry.validate(text)):
        with pytest.raises(InvalidArgumentError, match=problem) as refusal:
            await call
        assert {violation.field for violation in refusal.value.violations} == {"document"}


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: 1\na: 2", "[" * 5000, "- just\n- a list", "a: &a [*a]", "nul: \0", "7"],
    ids=["open", "twice", "deep", "list", "endless", "nul", "number"],
)
async def test_a_text_that_is_no_template_is_told_so(client: TaskerClient, engine: Engine, text: str) -> None:
    check = await client.registry.validate(text)
    assert not check.valid
    assert check.problems
    with pytest.raises(InvalidArgumentError):
        await client.registry.register(text)
    assert await tables(engine) == [0, 0, 0]


async def test_a_reply_stays_readable_whatever_is_wrong(client: TaskerClient) -> None:
    names = [f"{'x' * 200}{number}" for number in range(1000)]
    unknown = "\n".join(f"k{number:x}: 1" for number in range(20_000))
    text = yaml.safe_dump(
        {**version("1.0.0"), "steps": [{"name": name, "handler": "work"} for name in names]}
    )
    for long in (unknown, text[: MAX_DOCUMENT_BYTES - 1], f"{'k' * 200_000}: 1"):
        check = await client.registry.validate(long)
        assert len(check.problems) <= 500
        assert max(len(problem.problem) for problem in check.problems) <= 1000
    assert (await client.registry.validate(unknown)).omitted_problems > 19_000


async def test_the_only_error_is_told_before_any_number_of_warnings(client: TaskerClient) -> None:
    unknown = "\n".join(f"k{number}: 1" for number in range(600))
    text = f"{unknown}\n{yaml.safe_dump(version('1'))}"
    check = await client.registry.validate(text)
    assert not check.valid
    assert check.problems[0].code == "INVALID_VERSION"
    assert [problem.path for problem in check.problems[1:]] == [f"k{number}" for number in range(499)]
    assert {problem.severity for problem in check.problems[1:]} == {"warning"}
    assert (
        check.omitted_problems
        == len((await client.registry.validate(yaml.safe_dump(version("1")))).problems) + 100
    )


async def test_long_problems_are_told_as_far_as_a_client_reads_them(client: TaskerClient) -> None:
    long = "\U0001f600" * 2000
    text = f"name: workflow\nnamespace_name: test\nversion: 1.0.0\ndescription: &long {long}\nsteps:\n"
    text += "- {name: *long, *long : 1, handler: work}\n" * 600
    check = await client.registry.validate(text, strict=True)
    assert 300 < len(check.problems) < 500
    assert {problem.severity for problem in check.problems} == {"error"}
    assert check.omitted_problems > 100


async def test_a_version_in_use_is_not_replaced(client: TaskerClient, engine: Engine) -> None:
    await client.registry.register(version("1.0.0"))
    task = await client.create("test", "workflow")
    with pytest.raises(FailedPreconditionError) as refusal:
        await client.registry.register(version("1.0.0", 2))
    assert (refusal.value.reason, refusal.value.metadata["running_tasks"]) == ("TEMPLATE_IN_USE", "1")
    await client.cancel(task.task_uuid)
    assert (await client.registry.register(version("1.0.0", 2))).changed
    assert (await client.create("test", "workflow")).total_steps == 2  # at once, without a notification


# listing


async def test_versions_are_listed_highest_first_in_pages(
    client: TaskerClient, orchestration: OrchestrationService, engine: Engine
) -> None:
    numbers = ["1.10.0", "1.9.0", "1.2.30", "0.9.0"]
    for number in numbers:
        await engine.register(version(number))
    await client.create("test", "workflow", version="1.9.0")
    await client.cancel((await client.create("test", "workflow", version="1.9.0")).task_uuid)
    await client.registry.deactivate("test", "workflow", "1.10.0", **WHO)
    found = await client.registry.versions("test", "workflow")
    assert [(each.version, each.active, each.is_default, each.open_tasks) for each in found] == [
        ("1.10.0", False, False, 0),
        ("1.9.0", True, True, 1),
        ("1.2.30", True, False, 0),
        ("0.9.0", True, False, 0),
    ]
    async with Client(orchestration.address) as plain:
        stub = template_admin_pb2_grpc.TemplateAdminServiceStub(plain.channel)
        token, pages = None, []
        while True:
            request = template_admin_pb2.ListVersionsRequest(
                namespace="test",
                name="workflow",
                pagination=common_pb2.PaginationRequest(limit=2, page_token=token),
            )
            answer = await stub.ListVersions(request, timeout=PATIENCE_SECONDS)
            pages.append([each.version for each in answer.versions])
            assert answer.pagination.total == 4
            if not answer.pagination.has_more:
                break
            token = answer.pagination.next_page_token
        assert pages == [numbers[:2], numbers[2:]]
        request.name = "other"  # a token belongs to its listing
        refusal = await refused(stub.ListVersions(request, timeout=PATIENCE_SECONDS))
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"pagination.page_token"})
    with pytest.raises(NotFoundError):
        await client.registry.versions("test", "nothing")
    with pytest.raises(InvalidArgumentError) as missing:
        await client.registry.versions("", "")
    assert {violation.field for violation in missing.value.violations} == {"namespace", "name"}


# choosing


async def test_a_deactivated_version_is_no_default_and_cannot_be_created(
    client: TaskerClient, engine: Engine
) -> None:
    for number in ("1.0.0", "1.1.0"):
        await engine.register(version(number))
    running = await client.create("test", "workflow")
    assert running.version == "1.1.0"
    chosen = await client.registry.deactivate("test", "workflow", "1.1.0", **WHO)
    assert (chosen.version.active, chosen.default_version) == (False, "1.0.0")
    assert (chosen.version.deactivated_by, chosen.version.deactivation_reason) == ("anna", "it charges twice")
    assert chosen.version.deactivated_at is not None
    assert (await client.create("test", "workflow")).version == "1.0.0"
    with pytest.raises(FailedPreconditionError) as refusal:
        await client.create("test", "workflow", version="1.1.0")
    assert (refusal.value.reason, refusal.value.metadata["active_versions"]) == (
        "TEMPLATE_DEACTIVATED",
        "1.0.0",
    )
    assert "1.1.0" in str(refusal.value)
    assert "use an active one (1.0.0)" in str(refusal.value)
    (result,) = await client.batches.create([NewTask("test", "workflow", version="1.1.0")])
    assert result.error is not None
    assert result.error.reason == "TEMPLATE_DEACTIVATED"

    await engine.run(running.task_uuid)  # what runs goes on
    assert (await client.get(running.task_uuid)).state is TaskState.COMPLETE
    assert [each.version for each in (await client.templates("test")).templates] == ["1.0.0"]
    assert (await client.template("test", "workflow", "1.1.0")).version == "1.1.0"  # it can still be read
    assert (await client.template("test", "workflow")).version == "1.0.0"

    chosen = await client.registry.activate("test", "workflow", "1.1.0")
    assert (chosen.version.active, chosen.version.is_default, chosen.default_version) == (True, True, "1.1.0")
    assert (chosen.version.deactivated_by, chosen.version.deactivated_at) == (None, None)
    assert (await client.create("test", "workflow")).version == "1.1.0"


async def test_the_last_active_version_may_be_deactivated(client: TaskerClient, engine: Engine) -> None:
    await engine.register(version("1.0.0"))
    chosen = await client.registry.deactivate("test", "workflow", "1.0.0")
    assert chosen.default_version is None
    for asked in ("", "1.0.0"):
        with pytest.raises(FailedPreconditionError) as refusal:
            await client.create("test", "workflow", version=asked)
        assert refusal.value.reason == "TEMPLATE_DEACTIVATED"
        assert "activate" in str(refusal.value)
    assert (await client.registry.activate("test", "workflow", "1.0.0")).default_version == "1.0.0"
    assert (await client.create("test", "workflow")).version == "1.0.0"


async def test_repeating_keeps_who_was_first(client: TaskerClient, engine: Engine) -> None:
    await engine.register(version("1.0.0"))
    first = await client.registry.deactivate("test", "workflow", "1.0.0", **WHO)
    again = await client.registry.deactivate("test", "workflow", "1.0.0", requested_by="ben")
    assert again == first
    await client.registry.activate("test", "workflow", "1.0.0")
    assert (await client.registry.activate("test", "workflow", "1.0.0")).version.active


async def test_a_worker_that_starts_does_not_bring_a_version_back(
    client: TaskerClient, engine: Engine, database_url: str, workshop: Workshop, tmp_path: Any
) -> None:
    await engine.register(version("1.0.0"))
    await client.registry.deactivate("test", "workflow", "1.0.0", **WHO)
    for document in (version("1.0.0"), version("1.0.0", 2)):  # the same, and another content
        folder = services.write_templates(tmp_path / "templates", document)
        async with services.worker(database_url, workshop.registry, folder):
            (found,) = await client.registry.versions("test", "workflow")
            assert (found.active, found.deactivated_by) == (False, "anna")
    assert not (await client.registry.register(version("1.0.0", 3))).version.active


async def test_what_is_not_there_cannot_be_chosen(client: TaskerClient, engine: Engine) -> None:
    for number in ("1.0.0", "1.1.0"):
        await engine.register(version(number))
    await client.registry.deactivate("test", "workflow", "1.1.0")
    for choose in (client.registry.deactivate, client.registry.activate):
        with pytest.raises(NotFoundError) as refusal:
            await choose("test", "workflow", "2.0.0")
        assert refusal.value.metadata["known_versions"] == "1.1.0,1.0.0"
        with pytest.raises(InvalidArgumentError) as missing:
            await choose("", "", "")
        assert {violation.field for violation in missing.value.violations} == {"namespace", "name", "version"}
        with pytest.raises(InvalidArgumentError) as long:
            await choose("test", "workflow", "1.0.0", requested_by="x" * 256, reason="x" * 501)
        assert {violation.field for violation in long.value.violations} == {"requested_by", "reason"}


# races


async def test_an_orchestrator_that_has_not_heard_of_it_creates_nothing_either(
    client: TaskerClient, engine: Engine
) -> None:
    """Whoever takes a version out of use need not reach every orchestrator: each create asks the database."""
    for number in ("1.0.0", "1.1.0"):
        await engine.register(version(number, identity_strategy="strict"))
    await client.create("test", "workflow", {"n": 1})  # now it knows both by heart
    await client.create("test", "workflow", {"n": 1}, version="1.0.0")
    await engine.sql(
        "UPDATE tasker.named_tasks SET active = false WHERE version = '1.1.0'"
    )  # no notification
    with pytest.raises(FailedPreconditionError) as refusal:
        await client.create("test", "workflow", {"n": 2}, version="1.1.0")
    assert refusal.value.reason == "TEMPLATE_DEACTIVATED"
    await engine.sql("UPDATE tasker.named_tasks SET active = true")
    await client.registry.activate("test", "workflow", "1.0.0")
    assert (
        await client.create("test", "workflow", {"n": 2})
    ).version == "1.1.0"  # its identity was left free
    await engine.sql("UPDATE tasker.named_tasks SET active = false WHERE version = '1.1.0'")
    assert (await client.create("test", "workflow", {"n": 2})).version == "1.0.0"  # the next default


@pytest.mark.parametrize("all_or_nothing", [False, True])
async def test_many_tasks_of_a_version_that_goes_meanwhile(
    client: TaskerClient, engine: Engine, all_or_nothing: bool
) -> None:
    for number in ("1.0.0", "1.1.0"):
        await engine.register(version(number))
    await client.create("test", "workflow")
    await client.create("test", "workflow", version="1.1.0")
    await engine.sql("UPDATE tasker.named_tasks SET active = false WHERE version = '1.1.0'")
    wanted = [NewTask("test", "workflow"), NewTask("test", "workflow", version="1.1.0")]
    defaulted, named = await client.batches.create(wanted, all_or_nothing=all_or_nothing)
    assert named.error is not None
    assert named.error.reason == "TEMPLATE_DEACTIVATED"
    if all_or_nothing:
        assert defaulted.error is not None
        assert defaulted.error.reason == "ABANDONED"
    else:
        assert defaulted.task_uuid is not None
        assert (await client.get(defaulted.task_uuid)).version == "1.0.0"


async def test_a_create_and_a_deactivation_do_not_wait_for_each_other(
    client: TaskerClient, engine: Engine
) -> None:
    await engine.register(version("1.0.0"))
    await client.create("test", "workflow")
    async with rival(engine) as deactivating:
        await deactivating.sql("UPDATE tasker.named_tasks SET active = false")
        await at_once(client.create("test", "workflow"))  # it is in use until that is committed
        await deactivating.commit()
    with pytest.raises(FailedPreconditionError):
        await client.create("test", "workflow")


async def test_creates_while_versions_come_and_go_are_made_or_refused(
    client: TaskerClient, engine: Engine
) -> None:
    await engine.register(version("1.0.0"))
    await engine.register(version("1.1.0"))

    async def create() -> str:
        return (await client.create("test", "workflow")).version

    async def flip() -> None:
        for _ in range(10):
            await client.registry.deactivate("test", "workflow", "1.1.0")
            await client.registry.activate("test", "workflow", "1.1.0")

    *versions, _ = await asyncio.gather(*(create() for _ in range(100)), flip())
    assert set(versions) <= {"1.0.0", "1.1.0"}
    assert (await client.page(size=1)).total == 100


async def test_other_orchestrators_hear_of_it(database_url: str, engine: Engine) -> None:
    for number in ("1.0.0", "1.1.0"):
        await engine.register(version(number))
    async with (
        services.orchestration(database_url) as here,
        services.orchestration(database_url) as there,
        TaskerClient(here.address) as ours,
        TaskerClient(there.address) as theirs,
    ):
        assert (await theirs.create("test", "workflow")).version == "1.1.0"
        await ours.registry.deactivate("test", "workflow", "1.1.0")
        assert (await theirs.create("test", "workflow")).version == "1.0.0"
        await ours.registry.activate("test", "workflow", "1.1.0")

        async def heard() -> bool:
            return (await theirs.create("test", "workflow")).version == "1.1.0"

        await until(heard)
