"""What goes wrong between a command and its service: one line, the right exit code, never a trace."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tasker.domain import errors
from tasker.domain.queue_errors import PoisonNotFoundError
from tasker.domain.templates.versions import TemplateDeactivatedError
from tasker.v1 import common_pb2, tasks_pb2
from tests.support.commands import TASKER, environment, running, tasker
from tests.support.verbs import CALLS
from tests.unit.client.scripted import TASK, fails, played, sends, task_message

UUID = str(TASK)
WHY = ("--reason", "because")

COMMANDS = [
    ("task", "create", "test/workflow"),
    ("task", "get", UUID),
    ("task", "list"),
    ("task", "cancel", UUID),
    ("task", "watch", UUID),
    ("task", "steps", UUID),
    ("task", "summary", UUID),
    ("task", "context", UUID),
    ("task", "audit", UUID),
    ("task", "retry", UUID, *WHY),
    ("task", "resume", UUID, *WHY),
    ("task", "requeue", "--failed", *WHY),
    ("step", "list", UUID),
    ("step", "show", UUID, "charge"),
    ("step", "retry", UUID, "charge", *WHY),
    ("step", "resolve", UUID, "charge", *WHY),
    ("step", "complete", UUID, "charge", "--result", "{}", *WHY),
    ("dlq", "add", UUID, *WHY),
    ("dlq", "list"),
    ("dlq", "queue"),
    ("dlq", "show", UUID),
    ("dlq", "update", UUID, "--notes", "x"),
    ("dlq", "stats"),
    ("dlq", "staleness"),
    ("queue", "list"),
    ("queue", "pause", "shop", *WHY),
    ("queue", "resume", "shop"),
    ("queue", "poison"),
    ("queue", "requeue", "1", *WHY),
    ("system", "metrics"),
    ("system", "bottlenecks"),
    ("system", "config"),
    ("template", "versions", "test/workflow"),
    ("template", "activate", "test/workflow/1.0.0", *WHY),
    ("template", "deactivate", "test/workflow/1.0.0", *WHY),
    ("template", "list"),
    ("template", "show", "test/workflow"),
    ("health",),
]
REFUSALS = [
    (errors.InvalidArgumentError.of("priority", "is 101"), 2, "INVALID_ARGUMENT"),
    (errors.UnauthenticatedError("who?"), 3, "UNAUTHENTICATED"),
    (errors.PermissionDeniedError("tasks:read"), 3, "PERMISSION_DENIED"),
    (errors.TaskNotFoundError(TASK), 4, "NOT_FOUND"),
    (errors.UnknownTemplateError("test", "workflow", "9.9.9", ["1.0.0"]), 4, "INVALID_ARGUMENT"),
    (errors.UnavailableError("too busy", retry_after_seconds=60), 5, "UNAVAILABLE"),
    (errors.IdentityConflictError("test", "workflow", "1.0.0"), 1, "ALREADY_EXISTS"),
    (RuntimeError("secret"), 1, "INTERNAL"),
]


def test_every_command_that_calls_is_among_them() -> None:
    reading_files_before = {("template", "register")}
    assert {command[:2] for command in COMMANDS} == CALLS - reading_files_before | {("health",)}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_nobody_there(command: tuple[str, ...], tmp_path: Path) -> None:
    ended = await tasker(*command, "--timeout", "1", cwd=tmp_path, TASKER_ADDRESS="127.0.0.1:1")
    assert (ended.code, ended.out) == (5, "")
    assert ended.error == (
        "error: cannot use the service at 127.0.0.1:1: nothing listens there; start it, or name another one with "
        "--address or TASKER_ADDRESS"
    )


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (
            errors.IdentityConflictError("shop", "checkout", "1.0.0", existing_task_uuid=TASK), 1,
            f"`tasker task watch {TASK}` watches that one; --idempotency-key gives the key",
        ),
        (
            errors.IdentityConflictError("shop", "checkout", "1.0.0", idempotency_key="order-17"), 1,
            "--idempotency-key gives the key",
        ),
        (
            TemplateDeactivatedError("shop", "checkout", "1.1.0", ["1.0.0"]), 2,
            "`tasker template versions shop/checkout` lists them, "
            "`tasker template activate shop/checkout/1.1.0 --reason WHY` activates one",
        ),
        (
            TemplateDeactivatedError("shop", "checkout", ""), 2,
            "`tasker template versions shop/checkout` lists them, "
            "`tasker template activate shop/checkout/VERSION --reason WHY` activates one",
        ),
        (PoisonNotFoundError(7), 4, "`tasker queue poison` lists them"),
    ],
)  # fmt: skip
async def test_a_refusal_names_the_command_that_helps(
    error: errors.TaskerError, code: int, hint: str, tmp_path: Path
) -> None:
    async with played(fails(error)) as (address, _):
        ended = await tasker("task", "create", "shop/checkout", "--address", address, cwd=tmp_path)
    assert (ended.code, ended.error) == (code, f"error: {error} ({hint})")


async def test_no_such_host_and_no_such_socket(tmp_path: Path) -> None:
    host = await tasker("task", "list", "--address", "nowhere.invalid:1", "--timeout", "0.5", cwd=tmp_path)
    assert (host.code, "there is no such host" in host.error) == (5, True)
    socket = await tasker("health", "--address", f"unix:{tmp_path}/none", cwd=tmp_path)
    assert (socket.code, "there is no such socket" in socket.error) == (5, True)


async def test_a_service_of_another_kind(tmp_path: Path) -> None:
    async with played(fails(RuntimeError("never asked")), only="TaskService") as (address, _):
        ended = await tasker("health", "--address", address, cwd=tmp_path)
    assert ended.code == 1
    assert ended.error.startswith(
        f"error: cannot use the service at {address}: it does not know this call; name"
    )


async def test_a_service_that_does_not_answer_in_time(tmp_path: Path) -> None:
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with silent:
        address = "{}:{}".format(*silent.sockets[0].getsockname())
        ended = await tasker("health", "--address", address, "--timeout", "0.3", cwd=tmp_path)
    assert ended.code == 5
    assert ended.error.startswith(
        f"error: cannot use the service at {address}: it did not answer within 0.3 s"
    )


@pytest.mark.parametrize(("error", "code", "name"), REFUSALS, ids=[name for *_, name in REFUSALS])
async def test_a_refusal_is_an_exit_code_and_a_line(
    error: Exception, code: int, name: str, tmp_path: Path
) -> None:
    async with played(fails(error)) as (address, _):
        command = ("task", "create", "test/workflow", "--address", address)
        people, program = await asyncio.gather(
            tasker(*command, cwd=tmp_path), tasker(*command, "--json", cwd=tmp_path)
        )
    assert (people.code, people.out, program.code, program.out) == (code, "", code, "")
    assert people.error.startswith("error: ")
    assert program.refusal["code"] == name
    assert people.error == f"error: {program.refusal['message']}" or name == "INTERNAL"
    assert set(program.refusal) == {"code", "message", "reason", "fields", "metadata"}
    assert "secret" not in people.err


async def test_an_error_names_its_fields_for_programs(tmp_path: Path) -> None:
    violations = [
        errors.FieldViolation("context.number", "is odd"),
        errors.FieldViolation("tags[0]", "is empty"),
    ]
    async with played(fails(errors.InvalidArgumentError(violations))) as (address, _):
        ended = await tasker("task", "create", "test/workflow", "--address", address, "--json", cwd=tmp_path)
    assert ended.refusal["fields"] == [
        {"field": "context.number", "description": "is odd"},
        {"field": "tags[0]", "description": "is empty"},
    ]


async def test_an_error_cannot_steer_the_terminal(tmp_path: Path) -> None:
    async with played(fails(errors.NotFoundError("a\x1b[31m[red]b"))) as (address, _):
        ended = await tasker("task", "get", UUID, "--address", address, cwd=tmp_path)
    assert ended.error == "error: a\\x1b[31m[red]b"


async def test_wrong_arguments_are_one_line_too(tmp_path: Path) -> None:
    people, program = await asyncio.gather(
        tasker("task", "create", "a/b", "--context", "@none.json", cwd=tmp_path),
        tasker("task", "create", "a/b", "--context", "@none.json", "--json", cwd=tmp_path),
    )
    assert (people.code, people.out, program.code, program.out) == (2, "", 2, "")
    assert people.error == f"error: {program.refusal['message']}"


# Ends before the end


def pages() -> tasks_pb2.ListTasksResponse:
    """A page, and always another one behind it."""
    pagination = common_pb2.PaginationResponse(total=10_000, next_page_token="next")
    return tasks_pb2.ListTasksResponse(tasks=[task_message()] * 100, pagination=pagination)


@pytest.mark.parametrize("form", [(), ("--json",)])
async def test_a_reader_that_leaves_is_no_error(form: tuple[str, ...], tmp_path: Path) -> None:
    many = ("--limit", "5000") if not form else ("--all",)
    async with played(sends(pages())) as (address, _):
        process = await asyncio.create_subprocess_exec(
            TASKER, "task", "list", *many, *form, cwd=tmp_path, env=environment(TASKER_ADDRESS=address),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined] # as `head -1` does
        err = await asyncio.wait_for(process.stderr.read(), 60)
        await process.wait()
    assert [line for line in err.decode().splitlines() if "There are more" not in line] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("form", [(), ("--json",)])
async def test_a_signal_ends_it_with_130_and_says_nothing(
    form: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    found = sends(tasks_pb2.GetTaskResponse(task=task_message()))
    moved = tasks_pb2.TaskStatusUpdate(
        update_type=tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_STATE_CHANGE,
        task_state=common_pb2.TASK_STATE_STEPS_IN_PROCESS,
    )
    async with (
        played(found, sends(moved)) as (address, _),
        running("task", "watch", UUID, *form, cwd=tmp_path, TASKER_ADDRESS=address) as watch,
    ):
        await watch.says("steps_in_process")
        ended = await watch.signalled(number)
    assert (ended.code, ended.err) == (130, "")
