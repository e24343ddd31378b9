"""A command imports what it needs and not what the others need: their imports take longer than most commands."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from typing import Any

import pytest
import typer

from tasker.ctl.commands import COMMANDS, app
from tasker.v1 import tasks_pb2
from tests.unit.client.scripted import played, sends, task_message

PROGRAM = """
import json, sys
from tasker.ctl.main import execute
sys.argv[0] = "tasker"
code = execute()
print(json.dumps([code, *sys.modules]), file=sys.stderr)
"""

#: What a parser needs, and what a person sees.
SHOWING = {"typer", "rich"}
CALLING = {"grpc", "google", "asyncio", "uvloop", "tenacity"}
#: What only services need; and, by its subject, what moves on a terminal.
SERVING = {
    "pydantic", "pydantic_settings", "psycopg", "psycopg_pool", "pgmq", "jsonschema_rs", "yaml", "structlog",
    "tasker.orchestration", "tasker.worker", "tasker.persistence", "tasker.messaging", "tasker.rpc", "tasker.config",
    "tasker.telemetry", "rich.live", "rich.progress",
}  # fmt: skip


async def imported_by(*arguments: str, code: int = 0) -> set[str]:
    """Run the command line in a process of its own; return what was imported then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await asyncio.wait_for(process.communicate(), 60)
    ended, *modules = json.loads(err.decode().splitlines()[-1])
    assert ended == code
    return set(modules)


def those(names: Iterable[str], modules: set[str]) -> set[str]:
    """Return which of these, or of what is in them, are among the modules."""
    return {name for name in names if any(f"{module}.".startswith(f"{name}.") for module in modules)}


async def test_the_version_needs_no_command() -> None:
    modules = await imported_by("--version")
    assert those(SHOWING | CALLING | SERVING | {"tasker.domain", "tasker.client"}, modules) == set()


async def test_the_help_needs_a_parser() -> None:
    modules = await imported_by("--help")
    assert those(SHOWING | CALLING | SERVING | {"tasker.client"}, modules) == {"typer"}
    assert those((f"tasker.ctl.{name}" for name in COMMANDS), modules) == set()


async def test_a_command_that_calls_needs_no_service() -> None:
    assert those(SERVING, await imported_by("task", "list", "--help")) == set()
    page = tasks_pb2.ListTasksResponse(tasks=[task_message()])
    async with played(sends(page)) as (address, _):
        modules = await imported_by("task", "list", "--address", address)
    assert those(SHOWING | CALLING, modules) == SHOWING | CALLING
    assert those(SERVING, modules) == set()
    assert those((f"tasker.ctl.{name}" for name in COMMANDS), modules) == {"tasker.ctl.task"}


async def test_a_call_that_fails_needs_none_either() -> None:
    modules = await imported_by("task", "list", "--address", "127.0.0.1:1", "--timeout", "0.1", code=5)
    assert those(SERVING - {"pydantic"}, modules) == set()  # --timeout is a number: pydantic reads it


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_says_of_a_command_what_it_says_of_itself(name: str) -> None:
    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="tasker", terminal_width=100, max_content_width=100)
    itself = group.get_command(context, name).get_short_help_str(100)
    assert itself
    assert f"  {name:<13}  {itself}" in group.get_help(context).splitlines()
