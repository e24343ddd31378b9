"""The command as its users meet it: processes, signals, exit codes, one line for each error."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
import yaml

from tasker.client import TaskerClient, TaskState
from tasker.version import VERSION
from tests.support import services
from tests.support.commands import Command, running, tasker
from tests.support.engine import chain

SERVICES = ("orchestration", "worker")
ANY_PORTS = ("--orchestration-port", "0", "--worker-port", "0")


@pytest.fixture
def busy_address() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield f"127.0.0.1:{taken.getsockname()[1]}"


# What stops a command


async def test_version_and_help(tmp_path: Path) -> None:
    assert (await tasker("--version", cwd=tmp_path)).out == f"tasker {VERSION}\n"
    shown = await tasker("--help", cwd=tmp_path)
    assert shown.code == 0
    assert all(name in shown.out for name in ("demo", "dev", "migrate", *SERVICES))


async def test_a_command_that_is_none(tmp_path: Path) -> None:
    ended = await tasker("dance", cwd=tmp_path)
    assert ended.code == 2
    assert "No such command 'dance'" in ended.err


@pytest.mark.parametrize("command", ["migrate", *SERVICES])
async def test_no_database_url(command: str, tmp_path: Path) -> None:
    ended = await tasker(command, cwd=tmp_path)
    assert ended.code == 2
    assert ended.error == ("error: DATABASE_URL is not set (postgresql://user:password@host:port/database)")


async def test_no_url_of_a_database(tmp_path: Path) -> None:
    ended = await tasker("orchestration", cwd=tmp_path, DATABASE_URL="mysql//ada:secret@here/shop")
    assert ended.code == 2
    assert ended.error.startswith("error: DATABASE_URL is not a PostgreSQL URL")
    assert "secret" not in ended.err


@pytest.mark.parametrize("command", ["migrate", *SERVICES])
async def test_no_database_there(command: str, project: Path) -> None:
    ended = await tasker(command, cwd=project, DATABASE_URL="postgresql://ada:secret@127.0.0.1:1/shop")
    assert ended.code == 5
    assert ended.error.startswith("error: cannot use the database: nothing listens on 127.0.0.1:1")
    assert "secret" not in ended.err


@pytest.mark.parametrize("url", ["postgresql://ada:se@cret@127.0.0.1:1/x", "postgresql://ada:se/cret@h/x"])
async def test_a_password_that_spills_into_the_host_is_not_shown(url: str, tmp_path: Path) -> None:
    ended = await tasker("migrate", cwd=tmp_path, DATABASE_URL=url)
    assert ended.code in (2, 5)
    assert "cret" not in ended.err
    assert "@" not in ended.err


async def test_no_such_database(database_url: str, tmp_path: Path) -> None:
    elsewhere = re.sub(r"/test_\w+", "/nowhere", database_url)
    ended = await tasker("orchestration", cwd=tmp_path, DATABASE_URL=elsewhere)
    assert ended.code == 5
    assert "the server has no database nowhere" in ended.error


@pytest.mark.parametrize("command", SERVICES)
async def test_no_schema(command: str, empty_database_url: str, project: Path) -> None:
    ended = await tasker(command, cwd=project, DATABASE_URL=empty_database_url)
    assert ended.code == 1
    assert ended.error == "error: the database has no Tasker schema yet; run `tasker migrate`"


@pytest.mark.parametrize("command", SERVICES)
async def test_a_busy_port(command: str, busy_address: str, database_url: str, project: Path) -> None:
    settings = {f"TASKER_{command.upper()}_GRPC_BIND_ADDRESS": busy_address}
    ended = await tasker(command, cwd=project, DATABASE_URL=database_url, **settings)
    assert ended.code == 5
    assert ended.error.startswith(f"error: cannot listen on {busy_address}: the port is in use")


async def test_no_templates(database_url: str, tmp_path: Path) -> None:
    ended = await tasker("worker", cwd=tmp_path, DATABASE_URL=database_url)
    assert ended.code == 2
    assert ended.error.startswith("error: template directory config/tasks does not exist; create it")


@pytest.mark.parametrize("module", ["nowhere", "broken", "broken.py"])
async def test_handlers_that_do_not_import(module: str, database_url: str, project: Path) -> None:
    (project / "broken.py").write_text("1 / 0\n")
    ended = await tasker("worker", cwd=project, DATABASE_URL=database_url, PYTHON_HANDLER_PATH=module)
    assert ended.code == 1
    assert re.match(rf"error: handler module '\S*{module}' does not import: \w+: ", ended.error)
    assert "PYTHON_HANDLER_PATH" in ended.error


# Migrations


async def test_migrate_says_what_it_applied(empty_database_url: str, tmp_path: Path) -> None:
    first = await tasker("migrate", cwd=tmp_path, DATABASE_URL=empty_database_url)
    assert first.code == 0
    lines = first.out.splitlines()
    assert lines[:2] == ["installed PGMQ", "applied 0001_clock (pre)"]
    assert "wrote functions/advance" in lines
    assert all(
        re.fullmatch(r"applied \d{4}_\w+ \((pre|post)\)|wrote functions/\w+", line) for line in lines[1:]
    )
    again = await tasker("migrate", cwd=tmp_path, DATABASE_URL=empty_database_url)
    assert (again.code, again.out) == (0, "nothing to apply, the schema is up to date\n")


async def test_migrate_says_what_it_would_do(empty_database_url: str, tmp_path: Path) -> None:
    said = await tasker("migrate", "--dry-run", cwd=tmp_path, DATABASE_URL=empty_database_url)
    assert said.code == 0
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT to_regnamespace('tasker'), to_regnamespace('pgmq')").fetchall() == [
            (None, None)
        ]
    done = await tasker("migrate", cwd=tmp_path, DATABASE_URL=empty_database_url)
    told = said.out.replace("would install", "installed").replace("would apply", "applied")
    assert told.replace("would write", "wrote") == done.out
    nothing = await tasker("migrate", "--dry-run", cwd=tmp_path, DATABASE_URL=empty_database_url)
    assert nothing.out == "nothing to apply, the schema is up to date\n"


async def test_migrate_takes_a_phase(empty_database_url: str, tmp_path: Path) -> None:
    pre = await tasker("migrate", "--phase", "pre", cwd=tmp_path, DATABASE_URL=empty_database_url)
    assert pre.code == 0
    assert "(post)" not in pre.out
    post = await tasker("migrate", "--phase", "post", cwd=tmp_path, DATABASE_URL=empty_database_url)
    assert post.code == 0
    assert "(pre)" not in post.out
    assert (await tasker("migrate", "--phase", "mid", cwd=tmp_path)).code == 2


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", SERVICES)
async def test_a_signal_ends_a_service_well(
    command: str, number: signal.Signals, database_url: str, project: Path
) -> None:
    settings: dict[str, str] = {"DATABASE_URL": database_url, "PYTHON_HANDLER_PATH": "shop"}
    async with running(command, cwd=project, **settings) as service:
        await service.says(f"{command}_started", on="err")
        ended = await service.signalled(number)
    assert ended.code == 0
    assert ended.err.count(f"{command}_stopped") == 1


@asynccontextmanager
async def stuck_worker(
    database_url: str, project: Path, body: str, **settings: str
) -> AsyncIterator[Command]:
    """Run a worker whose handler is told to run and does not end."""
    (project / "stuck.py").write_text(
        "import asyncio, threading\nfrom tasker.worker import step_handler\n\n\n"
        f"@step_handler('work')\n{body}\n"
    )
    async with (
        services.orchestration(database_url) as orchestration,
        TaskerClient(orchestration.address) as client,
        running(
            "worker", cwd=project, DATABASE_URL=database_url, PYTHON_HANDLER_PATH="stuck", **settings
        ) as worker,
    ):
        await worker.says("worker_started", on="err")
        await client.create("test", "workflow")
        await worker.says("at work")
        yield worker


BLOCKED_THREAD = "def work():\n    print('at work', flush=True)\n    threading.Event().wait()"
BLOCKED_TASK = "async def work():\n    print('at work', flush=True)\n    await asyncio.Event().wait()"


@pytest.mark.parametrize("body", [BLOCKED_THREAD, BLOCKED_TASK])
async def test_a_second_signal_forces_the_end(body: str, database_url: str, project: Path) -> None:
    async with stuck_worker(database_url, project, body) as worker:
        worker.send(signal.SIGTERM)
        await worker.says("worker_stopping", on="err")
        ended = await worker.signalled(signal.SIGTERM)
    assert ended.code == 1
    assert ended.error.startswith("error: stopped at once, as asked twice")


@pytest.mark.parametrize("body", [BLOCKED_THREAD, BLOCKED_TASK])
async def test_a_handler_that_outlasts_the_shutdown_timeout(
    body: str, database_url: str, project: Path
) -> None:
    async with stuck_worker(database_url, project, body, TASKER_SHUTDOWN_TIMEOUT_SECONDS="0.2") as worker:
        ended = await worker.signalled(signal.SIGTERM)
    assert ended.code == 1
    assert ended.error.startswith("error: steps still ran when the shutdown timeout was over")


# dev


async def test_dev_is_all_it_takes(project: Path) -> None:
    async with running(
        "dev",
        "--templates",
        "config/tasks",
        "--handlers",
        "shop",
        "--data-dir",
        "data",
        *ANY_PORTS,
        cwd=project,
    ) as dev:
        address = await dev.says(r"orchestration +(127\.0\.0\.1:\d+)")
        await dev.says(r"worker +127\.0\.0\.1:\d+")
        await dev.says(r"database +data \(embedded PostgreSQL\)")
        await dev.says(r"templates +1 \(test/workflow:1\.0\.0\)")
        await dev.says(rf"tasker task create test/workflow --context .* --watch --address {address}")
        async with TaskerClient(address) as client:
            task = await client.create("test", "workflow")
            assert (await client.wait(task.task_uuid, timeout=30)).state is TaskState.COMPLETE
        ended = await dev.signalled(signal.SIGINT)
    assert ended.code == 0
    assert ended.out.endswith("Stopped.\n")
    assert not (project / "data" / "postmaster.pid").exists()


async def test_dev_tells_at_once_of_a_name_that_nothing_answers_to(project: Path) -> None:
    template = chain(1)
    template["steps"][0]["handler"] = "shop.wrok"
    (project / "typo").mkdir()
    (project / "typo" / "typo.yaml").write_text(yaml.safe_dump(template))
    async with running(
        "dev", "--templates", "typo", "--handlers", "shop.py", "--data-dir", "data", *ANY_PORTS, cwd=project
    ) as dev:
        address = await dev.says(r"orchestration +(127\.0\.0\.1:\d+)")
        await dev.says(r"shop\.wrok", on="err")
        async with TaskerClient(address) as client:
            task = await client.create("test", "workflow")
            done = await client.wait(task.task_uuid, timeout=30)
            assert done.state is TaskState.BLOCKED_BY_FAILURES
            error = done.step("s1").error
            assert error is not None
            assert error["error_type"] == "handler_not_found"
            assert "'shop.wrok'" in error["message"]
        await dev.signalled(signal.SIGTERM)


async def test_dev_uses_the_database_it_is_given(empty_database_url: str, project: Path) -> None:
    async with running(
        "dev", "--handlers", "shop", *ANY_PORTS, cwd=project, DATABASE_URL=empty_database_url
    ) as dev:
        await dev.says("database +the one that DATABASE_URL names")
        ended = await dev.signalled(signal.SIGTERM)
    assert ended.code == 0
    assert not (project / ".tasker").exists()


async def test_dev_stops_what_it_started_if_something_fails(busy_address: str, project: Path) -> None:
    port = busy_address.rpartition(":")[2]
    ended = await tasker(
        "dev", "--data-dir", "data", "--orchestration-port", "0", "--worker-port", port, cwd=project
    )
    assert ended.code == 5
    assert f"cannot listen on {busy_address}" in ended.error
    assert not (project / "data" / "postmaster.pid").exists()


async def test_dev_shows_a_task_that_the_template_takes(project: Path) -> None:
    template = chain(1) | {
        "name": "picky",
        "input_schema": {
            "type": "object",
            "required": ["even"],
            "properties": {"even": {"type": "integer", "minimum": 2, "multipleOf": 2}},
        },
    }
    (project / "picky").mkdir()
    (project / "picky" / "picky.yaml").write_text(yaml.safe_dump(template))
    async with running(
        "dev", "--templates", "picky", "--handlers", "shop.py", "--data-dir", "data", *ANY_PORTS, cwd=project
    ) as dev:
        context = await dev.says(r"tasker task create test/picky --context '(.*)' --watch")
        assert context == '{"even": 2}'
        assert (await dev.signalled(signal.SIGTERM)).code == 0
