"""The migration runner: what it applies, what it refuses, and that it builds what the files say."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pgmq.install import get_embedded_install_sql

from tasker.persistence import migrations, schema_files
from tasker.persistence.database import Database
from tasker.persistence.migrations import OLDEST_SCHEMA, Plan, SchemaVersionError, check_schema, migrate, plan
from tasker.persistence.schema_files import MigrationError, load_functions, load_migrations
from tests.support import databases
from tests.support.servers import postgres_programs

ROOT = Path(__file__).parents[3]

Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Make the runner read these files instead of ours: numbered ones, and those of functions."""

    def write(functions: Mapping[str, str] | None = None, **files: str) -> Path:
        (tmp_path / "functions").mkdir(exist_ok=True)
        for name, text in (functions or {}).items():
            (tmp_path / "functions" / f"{name}.sql").write_text(text)
        for name, text in files.items():
            (tmp_path / f"{name}.sql").write_text(text)
        monkeypatch.setattr(schema_files, "migrations_folder", lambda: tmp_path)
        return tmp_path

    return write


@pytest.fixture(params=["embedded", "system"])
def any_empty_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database without our schema, on each server there is."""
    with databases.empty(request.getfixturevalue(f"{request.param}_url")) as url:
        yield url


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def names(done: Plan) -> list[str]:
    """Return the migrations that a run has applied."""
    return [migration.name for migration in done.migrations]


def dump(url: str) -> str:
    """Return the schema of a database as text."""
    text = run("pg_dump", "--schema-only", "--no-owner", "--dbname", url)
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)  # a random word each time


def run(program: str, *arguments: str) -> str:
    """Run one of PostgreSQL's programs and return what it prints."""
    environment = {**os.environ, "LC_ALL": "C"}
    command = [str(postgres_programs() / program), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


# What it builds


def test_the_schema_is_what_the_files_say_in_order(
    any_empty_database_url: str,
) -> None:
    """Built by the runner, and by psql from the files, one by one."""
    with databases.empty(any_empty_database_url) as by_hand:
        with psycopg.connect(by_hand, autocommit=True) as connection:
            connection.execute(get_embedded_install_sql().encode())
            connection.execute("CREATE SCHEMA tasker")
            connection.execute(
                "CREATE TABLE tasker.schema_migrations (version integer PRIMARY KEY, name text NOT NULL, "
                "phase text NOT NULL, checksum text NOT NULL, release text NOT NULL, "
                "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
            connection.execute(
                "CREATE TABLE tasker.schema_functions (name text PRIMARY KEY, checksum text NOT NULL, "
                "release text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
        folder = schema_files.migrations_folder()
        unchecked = ["-c", "SET check_function_bodies = off"]
        for path in [*sorted(folder.glob("*.sql")), *sorted((folder / "functions").glob("*.sql"))]:
            run("psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", *unchecked, "-f", str(path), by_hand)
        applied = migrate(any_empty_database_url)
        assert applied.migrations == load_migrations()
        assert applied.functions == load_functions()
        assert dump(any_empty_database_url) == dump(by_hand)
        assert "CREATE FUNCTION tasker.claim_steps_v1" in dump(by_hand)


def test_a_second_run_does_nothing(empty_database_url: str) -> None:
    migrate(empty_database_url)
    before, record = dump(empty_database_url), query(empty_database_url, "TABLE tasker.schema_migrations")
    assert not migrate(empty_database_url)
    assert dump(empty_database_url) == before
    assert query(empty_database_url, "TABLE tasker.schema_migrations") == record


def test_runners_at_once_apply_everything_once(any_empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, [any_empty_database_url] * 4))
    assert sorted(len(one.migrations) for one in applied) == [0, 0, 0, len(load_migrations())]
    assert sorted(len(one.functions) for one in applied) == [0, 0, 0, len(load_functions())]
    versions = query(any_empty_database_url, "SELECT version FROM tasker.schema_migrations ORDER BY version")
    assert [version for (version,) in versions] == list(range(1, len(load_migrations()) + 1))


def test_pgmq_comes_from_its_sql_where_the_server_has_no_extension(
    any_empty_database_url: str,
) -> None:
    offered = query(any_empty_database_url, "SELECT 1 FROM pg_available_extensions WHERE name = 'pgmq'")
    migrate(any_empty_database_url)
    assert query(any_empty_database_url, "SELECT 1 FROM pg_extension WHERE extname = 'pgmq'") == offered
    assert query(any_empty_database_url, "SELECT count(*) FROM pgmq.list_queues()") == [(2,)]


def test_pgmq_that_is_there_already_stays(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(get_embedded_install_sql().encode())
        connection.execute("SELECT pgmq.create('somebody_elses')")
    migrate(empty_database_url)
    queues = query(empty_database_url, "SELECT queue_name FROM pgmq.list_queues()")
    assert ("somebody_elses",) in queues


# What it applies when


def test_phases_are_applied_one_before_and_one_after_the_code(
    empty_database_url: str, folder: Folder
) -> None:
    folder(
        **{
            "0001_a": "-- phase: pre\nCREATE TABLE tasker.a ();\n",
            "0002_b": "-- phase: post\nCREATE TABLE tasker.b ();\n",
            "0003_c": "-- phase: pre\nCREATE TABLE tasker.c ();\n",
        }
    )
    assert names(migrate(empty_database_url, phases=("pre",))) == ["a", "c"]
    assert names(migrate(empty_database_url, phases=("pre",))) == []
    assert query(empty_database_url, "SELECT to_regclass('tasker.b')") == [(None,)]
    assert names(migrate(empty_database_url, phases=("post",))) == ["b"]
    assert not migrate(empty_database_url)


def test_a_failed_file_leaves_nothing_behind(empty_database_url: str, folder: Folder) -> None:
    """Tables without the functions that use them, or the other way round, would be a schema that no code knows."""
    path = folder(
        {"twice": TWICE.format("i * 2")},
        **{
            "0001_good": "-- phase: pre\nCREATE TABLE tasker.good ();\n",
            "0002_bad": "-- phase: pre\nCREATE TABLE tasker.half ();\nSELECT 1 / 0;\nCREATE TABLE tasker.rest ();\n",
            "0003_next": "-- phase: pre\nCREATE TABLE tasker.next ();\n",
        },
    )
    with pytest.raises(MigrationError, match=r"0002_bad failed: division by zero"):
        migrate(empty_database_url)
    assert query(empty_database_url, "SELECT to_regnamespace('tasker')") == [(None,)]
    # Nothing holds the lock, and the corrected file lets all of them pass.
    (path / "0002_bad.sql").write_text("-- phase: pre\nCREATE TABLE tasker.half ();\n")
    done = migrate(empty_database_url)
    assert names(done) == ["good", "bad", "next"]
    assert [file.name for file in done.functions] == ["twice"]


def test_several_statements_and_function_bodies_are_one_file(empty_database_url: str, folder: Folder) -> None:
    """A splitter at semicolons would break this one."""
    folder(
        **{
            "0001_function": "-- phase: pre\n"
            "CREATE FUNCTION tasker.twice(i integer) RETURNS integer LANGUAGE plpgsql AS $$\n"
            "BEGIN\n    -- a comment; with a semicolon\n    RETURN i * 2;\nEND;\n$$;\n"
            "COMMENT ON FUNCTION tasker.twice IS 'per cent: 100 %s; quote: ''';\n",
        }
    )
    migrate(empty_database_url)
    assert query(empty_database_url, "SELECT tasker.twice(21)") == [(42,)]


# What it does beside services


@pytest.fixture
def altered_url(empty_database_url: str, folder: Folder) -> str:
    """A database with two tables, and a file not yet applied that alters them in the order claims do not take."""
    path = folder(
        **{
            "0001_tables": "-- phase: pre\nCREATE TABLE tasker.tasks ();\nCREATE TABLE tasker.workflow_steps ();\n"
        }
    )
    migrate(empty_database_url)
    (path / "0002_alter.sql").write_text(
        "-- phase: pre\nALTER TABLE tasker.tasks ADD i integer;\nALTER TABLE tasker.workflow_steps ADD i integer;\n"
    )
    return empty_database_url


@contextmanager
def claim(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A service's transaction that has begun with the steps."""
    with psycopg.connect(url, application_name="a service") as session:
        session.execute("SELECT FROM tasker.workflow_steps FOR NO KEY UPDATE")
        yield session


def until_migration_waits(url: str) -> None:
    """Return when the runner waits for the lock on the steps."""
    deadline = time.monotonic() + 30
    waiting = (
        "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() "
        "WHERE NOT l.granted AND l.relation = 'tasker.workflow_steps'::regclass"
    )
    with psycopg.connect(url, autocommit=True) as observer:
        while not observer.execute(waiting.encode()).fetchall():
            assert time.monotonic() < deadline, "the migration has not come to wait for the steps"


def test_a_deadlock_with_a_service_is_tried_again(altered_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_SECONDS", 30.0)  # the deadlock ends the wait before
    with ThreadPoolExecutor(1) as pool, claim(altered_url) as service:
        service.execute("SET LOCAL deadlock_timeout = '100s'")  # the other side finds it, and is the victim
        applied = pool.submit(migrate, altered_url)
        until_migration_waits(altered_url)
        service.execute("SELECT FROM tasker.tasks FOR NO KEY UPDATE")
        service.commit()
        assert names(applied.result()) == ["alter"]
    assert query(altered_url, "SELECT i FROM tasker.tasks JOIN tasker.workflow_steps USING (i)") == []


def test_a_waiting_migration_lets_others_through(altered_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_SECONDS", 0.5)
    with ThreadPoolExecutor(1) as pool, claim(altered_url) as service:
        applied = pool.submit(migrate, altered_url)
        until_migration_waits(altered_url)
        # These queue behind the migration, which waits for the service, which does not end before they have run.
        with psycopg.connect(altered_url, autocommit=True, options="-c lock_timeout=30s") as other:
            other.execute("SELECT FROM tasker.workflow_steps")
            other.execute("SELECT FROM tasker.tasks")
        assert not applied.done()
        service.commit()
        assert names(applied.result()) == ["alter"]


def test_a_migration_that_gets_no_lock_says_who_has_it(
    altered_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(migrations, "_PAUSE_SECONDS", (0.0, 0.01))
    monkeypatch.setattr(migrations, "_LOCK_PATIENCE_SECONDS", 0.2)
    with claim(altered_url) as service:
        with pytest.raises(MigrationError) as refused:
            migrate(altered_url)
        message = str(refused.value)
        assert "0002_alter did not get its locks within 0 s, and nothing is applied" in message
        assert "canceling statement due to lock timeout" in message
        assert f"process {service.info.backend_pid} ('a service', idle in transaction) has held" in message
        assert "stop the services, and run `tasker migrate` again" in message
        columns = (
            "SELECT 1 FROM information_schema.columns WHERE table_schema = 'tasker' AND column_name = 'i'"
        )
        assert query(altered_url, columns) == []
    assert names(migrate(altered_url)) == ["alter"]


# What it refuses


def test_a_file_changed_after_it_was_applied_is_refused(empty_database_url: str, folder: Folder) -> None:
    path = folder(**{"0001_first": "-- phase: pre\nCREATE TABLE tasker.first ();\n"})
    migrate(empty_database_url)
    (path / "0001_first.sql").write_text("-- phase: pre\nCREATE TABLE tasker.first (i integer);\n")
    (path / "0002_second.sql").write_text("-- phase: pre\nCREATE TABLE tasker.second ();\n")
    with pytest.raises(
        MigrationError, match="migration 0001_first has changed since it was applied; restore the file"
    ):
        migrate(empty_database_url)
    assert query(empty_database_url, "SELECT to_regclass('tasker.second')") == [(None,)]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"first": "-- phase: pre\n"}, r"first\.sql: name it NNNN_what\.sql"),
        ({"1_first": "-- phase: pre\n"}, r"1_first\.sql: name it"),
        ({"0001-first": "-- phase: pre\n"}, r"0001-first\.sql: name it"),
        ({"0001_First": "-- phase: pre\n"}, r"0001_First\.sql: name it"),
        (
            {"0001_first": "SELECT 1;\n"},
            r"0001_first\.sql: .*begin it with '-- phase: pre' or '-- phase: post'",
        ),
        ({"0001_first": "-- phase: during\n"}, r"0001_first\.sql: .*begin it with"),
        ({"0002_second": "-- phase: pre\n"}, "without gap or repetition"),
        ({"0001_a": "-- phase: pre\n", "0003_c": "-- phase: pre\n"}, "without gap or repetition"),
        ({"0001_a": "-- phase: pre\n", "0001_b": "-- phase: pre\n"}, "without gap or repetition"),
    ],
)
def test_badly_named_files_are_refused_before_anything_runs(
    folder: Folder, files: dict[str, str], complaint: str
) -> None:
    with pytest.raises(MigrationError, match=complaint):
        load_migrations(folder(**files))


def test_our_own_files_are_in_order() -> None:
    found = load_migrations()
    assert [migration.version for migration in found] == list(range(1, len(found) + 1))
    assert all(migration.phase in ("pre", "post") for migration in found)
    assert len(found) >= OLDEST_SCHEMA


def test_every_function_that_is_called_is_defined() -> None:
    """Nothing else would notice: plpgsql looks at what it calls when it comes to it."""
    texts = [file.statements for file in load_functions()]
    persistence = ROOT / "shared" / "tasker" / "persistence"
    sources = (path.read_text("utf-8") for kind in ("py", "sql") for path in persistence.rglob(f"*.{kind}"))
    called = {name for text in (*texts, *sources) for name in re.findall(r"tasker\.(\w+_v\d+)\(", text)}
    assert called <= {name for text in texts for name in re.findall(r"FUNCTION tasker\.(\w+)\(", text)}


def test_no_function_has_two_texts() -> None:
    defined = Counter(
        name
        for path in schema_files.migrations_folder().rglob("*.sql")
        for name in re.findall(
            r"^CREATE (?:OR REPLACE )?FUNCTION tasker\.(\w+)", path.read_text(), re.MULTILINE
        )
    )
    assert [name for name, texts in defined.items() if texts > 1] == []
    assert all("CREATE FUNCTION" not in file.statements for file in load_functions())
    created = re.compile(r"CREATE (OR REPLACE )?FUNCTION")
    assert not any(created.search(migration.statements) for migration in load_migrations())


# What the services accept


async def complaint_about(url: str) -> str:
    """Return why the services refuse a schema; empty when they do not."""
    database = Database(url, application_name="test", max_size=1)
    await database.open()
    try:
        await check_schema(database)
    except SchemaVersionError as error:
        return str(error)
    finally:
        await database.close()
    return ""


async def test_services_say_which_schema_they_need(empty_database_url: str) -> None:
    assert "no Tasker schema yet; run `tasker migrate`" in await complaint_about(empty_database_url)
    migrate(empty_database_url)
    assert await complaint_about(empty_database_url) == ""
    known = len(load_migrations())
    insert = "INSERT INTO tasker.schema_migrations VALUES (%s, 'later', %s, '', '99.0')"
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(insert, (known + 1, "pre"))
        assert await complaint_about(empty_database_url) == ""  # `pre` migrations precede the code
        connection.execute(insert, (known + 2, "post"))
        newer = await complaint_about(empty_database_url)
        assert f"version {known + 2}, and version {known + 2} has taken away what this code needs" in newer
        assert newer.endswith("upgrade Tasker")
        connection.execute("DELETE FROM tasker.schema_migrations WHERE version >= %s", (OLDEST_SCHEMA,))
        older = await complaint_about(empty_database_url)
        assert (
            f"version {OLDEST_SCHEMA - 1}, this code needs {OLDEST_SCHEMA} or later; run `tasker migrate`"
            in older
        )
        connection.execute("DELETE FROM tasker.schema_migrations")
        assert "no Tasker schema yet" in await complaint_about(empty_database_url)


async def test_services_need_the_functions_of_their_release(empty_database_url: str) -> None:
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE tasker.schema_functions SET checksum = 'x', release = '0.0.1' WHERE name = 'claim'"
        )
        older = await complaint_about(empty_database_url)
        assert "not those of this release (of claim); run `tasker migrate`" in older
        connection.execute("UPDATE tasker.schema_functions SET release = '99.0' WHERE name = 'claim'")
        assert await complaint_about(empty_database_url) == ""  # those of a newer one do what they did
        connection.execute("DELETE FROM tasker.schema_functions WHERE name = 'submit'")
        assert "(of submit)" in await complaint_about(empty_database_url)


# Functions


TWICE = (
    "CREATE OR REPLACE FUNCTION tasker.twice_v1(i integer) RETURNS integer LANGUAGE sql AS $$ SELECT {} $$;\n"
)


def written(done: Plan) -> list[str]:
    """Return the files of functions that a run has written."""
    return [file.name for file in done.functions]


def test_a_function_is_written_when_its_text_is_another(empty_database_url: str, folder: Folder) -> None:
    folder({"twice": TWICE.format("i * 2"), "thrice": TWICE.replace("twice", "thrice").format("i * 3")})
    assert written(migrate(empty_database_url)) == ["thrice", "twice"]
    assert written(migrate(empty_database_url)) == []
    folder({"twice": TWICE.format("i + i")})
    assert written(migrate(empty_database_url)) == ["twice"]
    (source,) = query(empty_database_url, "SELECT prosrc FROM pg_proc WHERE proname = 'twice_v1'")
    assert source == (" SELECT i + i ",)


def test_functions_come_in_any_order(empty_database_url: str, folder: Folder) -> None:
    folder(
        {
            "a_caller": TWICE.replace("twice", "caller").format("tasker.callee_v1(i)"),
            "b_callee": TWICE.replace("twice", "callee").format("i * 2 FROM tasker.numbers"),
        },
        **{"0001_numbers": "-- phase: pre\nCREATE TABLE tasker.numbers ();\n"},
    )
    assert written(migrate(empty_database_url)) == ["a_caller", "b_callee"]
    assert query(empty_database_url, "SELECT tasker.caller_v1(21)") == [(None,)]  # no numbers


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (TWICE.format("tasker.nobody_v1(i)"), "the function twice_v1 is wrong: function tasker.nobody_v1"),
        (
            TWICE.format("i * 2 FROM tasker.nowhere"),
            'the function twice_v1 is wrong: relation "tasker.nowhere"',
        ),
        (
            TWICE.replace("LANGUAGE sql", "LANGUAGE plpgsql").format("i * 2"),
            "the function twice_v1 is wrong: syntax error",
        ),
        ("SELECT 1 / 0;\n", "functions/twice failed: division by zero"),
    ],
)
def test_a_body_that_cannot_work_is_refused(
    empty_database_url: str, folder: Folder, text: str, complaint: str
) -> None:
    folder({"twice": text})
    with pytest.raises(MigrationError, match=re.escape(complaint)):
        migrate(empty_database_url)
    assert query(empty_database_url, "SELECT to_regnamespace('tasker')") == [(None,)]


def test_our_own_bodies_are_checked_although_files_come_in_any_order(
    empty_database_url: str, folder: Folder
) -> None:
    """One slip in one of our functions."""
    ours = schema_files.migrations_folder()
    advance = (ours / "functions" / "advance.sql").read_text()
    slipped = advance.replace("v_now := tasker.now();", "v_gone := tasker.now();")
    assert slipped != advance
    functions = {file.name: file.statements for file in load_functions(ours)}
    folder(
        functions | {"advance": slipped},
        **{str(migration): migration.statements for migration in load_migrations(ours)},
    )
    with pytest.raises(MigrationError, match=r"the function advance_tasks_v1 is wrong: .*v_gone"):
        migrate(empty_database_url)


@pytest.mark.parametrize(
    "changed",
    [
        TWICE.replace("i integer", "i integer, j integer").format("i * 2"),
        TWICE.replace("i integer", "i bigint").format("2"),
        TWICE.replace("RETURNS integer", "RETURNS text").format("'2'"),
        TWICE.replace("i integer", "n integer").format("n * 2"),
    ],
)
def test_a_changed_signature_needs_a_name_of_its_own(
    empty_database_url: str, folder: Folder, changed: str
) -> None:
    path = folder({"twice": TWICE.format("i * 2")})
    migrate(empty_database_url)
    (path / "functions" / "twice.sql").write_text(changed)
    with pytest.raises(
        MigrationError, match=r"give the changed function the next version in its name \(_v2\)"
    ):
        migrate(empty_database_url)
    assert query(empty_database_url, "SELECT tasker.twice_v1(21)") == [(42,)]


def test_an_old_version_stays_until_a_post_migration_drops_it(
    empty_database_url: str, folder: Folder
) -> None:
    path = folder({"twice": TWICE.format("i * 2")})
    migrate(empty_database_url)
    later = TWICE.replace("twice_v1(i integer)", "twice_v2(i bigint)").format("2")
    folder(
        {"twice": later},
        **{"0001_drop": "-- phase: post\nDROP FUNCTION IF EXISTS tasker.twice_v1(integer);\n"},
    )
    assert written(migrate(empty_database_url, phases=("pre",))) == ["twice"]
    versions = "SELECT proname FROM pg_proc WHERE proname LIKE 'twice%' ORDER BY proname"
    assert query(empty_database_url, versions) == [("twice_v1",), ("twice_v2",)]
    assert names(migrate(empty_database_url, phases=("post",))) == ["drop"]
    assert query(empty_database_url, versions) == [("twice_v2",)]
    assert path.exists()


def test_an_older_release_never_overwrites_a_newer_function(empty_database_url: str, folder: Folder) -> None:
    folder({"twice": TWICE.format("i * 2")})
    assert written(migrate(empty_database_url, release="1.10.0")) == ["twice"]
    folder({"twice": TWICE.format("i + i")})
    older = migrate(empty_database_url, release="1.9.0")
    assert (written(older), [(file.name, release) for file, release in older.newer]) == (
        [],
        [("twice", "1.10.0")],
    )
    assert query(empty_database_url, "SELECT prosrc FROM pg_proc WHERE proname = 'twice_v1'") == [
        (" SELECT i * 2 ",)
    ]
    assert written(migrate(empty_database_url, release="1.10.0rc1")) == []
    # A newer release that has the same text as an older one is what counts from then on.
    folder({"twice": TWICE.format("i * 2")})
    assert not migrate(empty_database_url, release="1.10.5")
    folder({"twice": TWICE.format("i + i")})
    assert written(migrate(empty_database_url, release="1.10.1")) == []
    assert written(migrate(empty_database_url, release="1.11.0")) == ["twice"]
    assert query(empty_database_url, "SELECT name, release FROM tasker.schema_functions") == [
        ("twice", "1.11.0")
    ]


def test_functions_of_queues_follow_the_text_that_makes_them(empty_database_url: str, folder: Folder) -> None:
    """Each queue has functions of its own, made from a text in a function."""
    ours = schema_files.migrations_folder()
    functions = {file.name: file.statements for file in load_functions(ours)}
    numbered = {str(migration): migration.statements for migration in load_migrations(ours)}
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("SELECT tasker.ensure_queue_v1('worker_shop_queue')")
    remarked = functions["queues"].replace(
        "RETURN true;\n        END;\n        $body$", "-- new\nRETURN true;END;$body$"
    )
    assert remarked != functions["queues"]
    folder(functions | {"queues": remarked}, **numbered)
    assert written(migrate(empty_database_url)) == ["queues"]
    sources = query(empty_database_url, "SELECT prosrc FROM pg_proc WHERE proname LIKE 'push\\_to\\_%'")
    assert len(sources) == 3
    assert all("-- new" in source for (source,) in sources)


def test_a_plan_says_what_a_run_does_and_does_nothing(empty_database_url: str, folder: Folder) -> None:
    folder(
        {"twice": TWICE.format("i * 2")},
        **{
            "0001_a": "-- phase: pre\nCREATE TABLE tasker.a ();\n",
            "0002_b": "-- phase: post\nCREATE TABLE tasker.b ();\n",
        },
    )
    foretold = plan(empty_database_url, phases=("pre",))
    assert query(empty_database_url, "SELECT to_regnamespace('tasker'), to_regnamespace('pgmq')") == [
        (None, None)
    ]
    assert foretold == migrate(empty_database_url, phases=("pre",))
    assert (foretold.pgmq, names(foretold), written(foretold)) == (True, ["a"], ["twice"])
    assert names(plan(empty_database_url)) == ["b"]


# A database from before the first release


async def test_a_schema_from_before_the_first_release_is_refused(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA tasker")
        connection.execute(
            "CREATE TABLE tasker.schema_migrations (version integer PRIMARY KEY, name text NOT NULL, "
            "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        connection.execute(
            "INSERT INTO tasker.schema_migrations VALUES (1, 'clock', 'x'), (30, 'staleness', 'x')"
        )
    word = "comes from before Tasker's first release, and no way leads on from there; use an empty database"
    for attempt in (migrate, plan):
        with pytest.raises(MigrationError, match=word):
            attempt(empty_database_url)
    assert word in await complaint_about(empty_database_url)
    assert query(empty_database_url, "SELECT to_regnamespace('pgmq')") == [(None,)]
