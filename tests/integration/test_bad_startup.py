"""What keeps a process from starting: one line that says what is wrong and what to do, and nothing half written."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tasker.client import TaskerClient, TaskState
from tasker.persistence import schema_files
from tasker.persistence.migrations import OLDEST_SCHEMA, migrate
from tasker.persistence.schema_files import load_migrations
from tests.support import services
from tests.support.commands import running, tasker
from tests.support.engine import chain

SERVICES = ("orchestration", "worker")


@pytest.fixture
def guest_url(database_url: str) -> Iterator[str]:
    """The same database for a user who may nothing there."""
    name = f"guest_{conninfo_to_dict(database_url)['dbname']}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        yield re.sub(r"://[^/]*/", f"://{name}@/", database_url)
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def everything_in(database_url: str) -> dict[str, int]:
    """Return the number of rows of every table of ours."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT schemaname, relname FROM pg_stat_user_tables WHERE schemaname IN ('tasker', 'pgmq')"
        ).fetchall()
        count = sql.SQL("SELECT count(*) FROM {}")
        return {
            relname: connection.execute(count.format(sql.Identifier(schemaname, relname))).fetchall()[0][0]
            for schemaname, relname in tables
        }


def execute(database_url: str, statement: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement.encode())


# The database


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "mysql://ada:secret@here/shop",
            "is not a PostgreSQL URL; give postgresql://user:password@host:port",
        ),
        ("postgresql://ada:secret@here:http/shop", "else than a number up to 65535 as port"),
        ("postgresql://ada:secret@here:99999/shop", "else than a number up to 65535 as port"),
        ("postgresql://ada:sec/ret@here/shop", "percent-encode its special characters"),
    ],
)
@pytest.mark.parametrize("command", ["migrate", *SERVICES])
async def test_a_wrong_database_url(command: str, url: str, says: str, project: Path) -> None:
    ended = await tasker(command, cwd=project, DATABASE_URL=url)
    assert ended.code == 2
    assert ended.error.startswith("error: DATABASE_URL ")
    assert says in ended.error
    assert not re.search("secret|sec/ret", ended.err)


async def test_something_else_than_postgresql_answers(project: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        ended = await tasker(
            "worker", cwd=project, DATABASE_URL=f"postgresql://ada:secret@127.0.0.1:{port}/x"
        )
    assert ended.code == 5
    assert ended.error.startswith("error: cannot use the database: ")
    assert "check DATABASE_URL" in ended.error
    assert "secret" not in ended.err


@pytest.mark.parametrize("command", SERVICES)
async def test_a_user_who_may_not_read_the_schema(command: str, guest_url: str, project: Path) -> None:
    ended = await tasker(command, cwd=project, DATABASE_URL=guest_url)
    assert ended.code == 1
    assert ended.error == (
        "error: the user of DATABASE_URL may not use Tasker's schema: permission denied for schema tasker; "
        "name the user that ran `tasker migrate`"
    )


async def test_a_user_who_may_not_migrate(guest_url: str, project: Path) -> None:
    ended = await tasker("migrate", cwd=project, DATABASE_URL=guest_url)
    assert ended.code == 1
    assert re.fullmatch(
        r"error: the user guest_\w+ may not create schemas: permission denied for database \w+; "
        r"run `tasker migrate` as the owner of the database",
        ended.error,
    )


# Its schema


@pytest.mark.own_database
@pytest.mark.parametrize("command", SERVICES)
async def test_a_schema_that_is_too_new(command: str, database_url: str, project: Path) -> None:
    newer = len(load_migrations()) + 1
    execute(
        database_url,
        f"INSERT INTO tasker.schema_migrations VALUES ({newer}, 'later', 'post', 'x', '99.0')",
    )
    before = everything_in(database_url)
    ended = await tasker(command, cwd=project, DATABASE_URL=database_url)
    assert ended.code == 1
    assert ended.error == (
        f"error: the database's schema is version {newer}, and version {newer} has taken away what this code "
        "needs; upgrade Tasker"
    )
    assert everything_in(database_url) == before


async def test_a_schema_that_is_too_old_names_the_command_that_mends_it(
    empty_database_url: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database as the release before left it: neither service starts, and both do after `tasker migrate`."""
    old = tmp_path / "old_release"
    old.mkdir()
    for path in sorted(schema_files.migrations_folder().glob("*.sql"))[: OLDEST_SCHEMA - 1]:
        shutil.copy(path, old)
    with monkeypatch.context() as patched:
        patched.setattr(schema_files, "migrations_folder", lambda: old)
        assert len(migrate(empty_database_url).migrations) == OLDEST_SCHEMA - 1
    before = everything_in(empty_database_url)
    settings = {"DATABASE_URL": empty_database_url, "PYTHON_HANDLER_PATH": "shop"}
    for command in SERVICES:
        ended = await tasker(command, cwd=project, **settings)
        assert ended.code == 1
        assert ended.error == (
            f"error: the database's schema is version {OLDEST_SCHEMA - 1}, "
            f"this code needs {OLDEST_SCHEMA} or later; run `tasker migrate`"
        )
    assert everything_in(empty_database_url) == before

    applied = await tasker("migrate", cwd=project, DATABASE_URL=empty_database_url)
    assert applied.out.count("applied ") == len(load_migrations()) - OLDEST_SCHEMA + 1
    async with (
        running("orchestration", cwd=project, **settings) as orchestration,
        running("worker", cwd=project, **settings) as worker,
    ):
        await worker.says("worker_started", on="err")
        address = await orchestration.says(r'"address": "(127\.0\.0\.1:\d+)"', on="err")
        async with TaskerClient(address) as client:
            task = await client.create("test", "workflow")
            assert (await client.wait(task.task_uuid, timeout=30)).state is TaskState.COMPLETE


# Settings


@pytest.mark.parametrize(
    ("command", "variable", "value", "says"),
    [
        ("orchestration", "TASKER_INPUT_VALIDATION", "maybe", "'enforce', 'warn' or 'off'"),
        ("orchestration", "TASKER_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("orchestration", "TASKER_SHUTDOWN_TIMEOUT_SECONDS", "-1", "greater than 0"),
        ("worker", "TASKER_WORKER_SLOTS", "many", "valid integer"),
        ("worker", "TASKER_STRICT_TEMPLATES", "perhaps", "valid boolean"),
        ("worker", "TASKER_TEMPLATES_FORCE_OVERWRITE", "perhaps", "valid boolean"),
    ],
)
async def test_a_setting_that_is_none(
    command: str, variable: str, value: str, says: str, project: Path
) -> None:
    ended = await tasker(command, cwd=project, **{variable: value})
    assert ended.code == 2
    assert ended.error.startswith("error: DATABASE_URL is not set")  # all that is wrong, in one line
    assert re.search(rf"{variable}: Input should be .*{says}", ended.error)


@pytest.mark.parametrize("command", SERVICES)
async def test_an_address_that_is_none(command: str, database_url: str, project: Path) -> None:
    settings = {f"TASKER_{command.upper()}_GRPC_BIND_ADDRESS": "nowhere"}
    ended = await tasker(command, cwd=project, DATABASE_URL=database_url, **settings)
    assert ended.code == 5
    assert ended.error.startswith("error: cannot listen on nowhere: ")


# Templates and handlers


async def test_a_template_directory_that_is_a_file(database_url: str, project: Path) -> None:
    ended = await tasker("worker", cwd=project, DATABASE_URL=database_url, TASKER_TEMPLATE_PATH="shop.py")
    assert ended.code == 2
    assert ended.error.startswith(
        "error: cannot read template directory shop.py: Not a directory; mend it, or set TASKER_TEMPLATE_PATH"
    )


async def test_a_broken_template_among_good_ones_does_not_stop_the_worker(
    database_url: str, project: Path
) -> None:
    folder = project / "config" / "tasks"
    (folder / "broken.yaml").write_text("name: Broken\nsteps: []\n")
    (folder / "typo.yaml").write_text(yaml.safe_dump(chain(1) | {"name": "typo", "discription": "x"}))
    settings = {"DATABASE_URL": database_url, "PYTHON_HANDLER_PATH": "shop"}
    async with (
        services.orchestration(database_url) as orchestration,
        TaskerClient(orchestration.address) as client,
        running("worker", cwd=project, **settings, TASKER_STRICT_TEMPLATES="true") as worker,
    ):
        await worker.says("worker_started", on="err")
        task = await client.create("test", "workflow")
        assert (await client.wait(task.task_uuid, timeout=30)).state is TaskState.COMPLETE
    said = "".join(worker.lines)
    for problem in (
        r"broken\.yaml:1: INVALID_NAME: 'Broken' must match",
        r"broken\.yaml:1: MISSING_FIELD: version: required",
        r"broken\.yaml:1: MISSING_FIELD: namespace_name: required",
        r"broken\.yaml:2: NO_STEPS: steps: a template needs at least one step",
        r"typo\.yaml:1: UNKNOWN_KEY: discription: unknown key, did you mean description\?",
    ):
        assert re.search(problem, said)
    assert re.search(r'"total_files": 3, "successful_registrations": 1, "failed_registrations": 2', said)
    assert everything_in(database_url)["named_tasks"] == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"TASKER_TEMPLATE_PATH": "nowhere"},
        {"PYTHON_HANDLER_PATH": "nowhere"},
        {"TASKER_WORKER_GRPC_BIND_ADDRESS": "nowhere"},
        {"TASKER_WORKER_SLOTS": "0"},
    ],
)
async def test_a_worker_that_does_not_start_writes_nothing(
    settings: dict[str, str], database_url: str, project: Path
) -> None:
    before = everything_in(database_url)
    ended = await tasker("worker", cwd=project, DATABASE_URL=database_url, **settings)
    assert ended.code != 0
    assert re.match(r"error: .*nowhere|error: TASKER_WORKER_SLOTS: ", ended.error)
    assert everything_in(database_url) == before
    assert before["named_tasks"] == 0
    assert before["workers"] == 0
