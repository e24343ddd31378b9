"""The migration runner: plain SQL files, one transaction each, under one advisory lock."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import psycopg
from psycopg import Connection
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from tasker.domain.errors import TaskerError
from tasker.persistence.database import Database

Phase: TypeAlias = Literal["pre", "post"]

#: The schema versions this code runs on: `pre` migrations precede the code, so newer ones may be there already.
OLDEST_SCHEMA: Final = 28
NEWEST_SCHEMA: Final = 999

_LOCK_KEY: Final = 0x7461736B6572  # "tasker"
#: Whoever wants a table that a migration waits for queues behind it; so it waits briefly, and gives way in between.
_LOCK_TIMEOUT_SECONDS: Final = 3.0
_PAUSE_SECONDS: Final = (0.5, 3.0)
#: A try that ends later than this after the first began is the last one.
_LOCK_PATIENCE_SECONDS: Final = 60.0
_LOCK_CONFLICTS: Final = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)
_FILE_NAME: Final = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
_PHASE: Final = re.compile(r"-- phase: (pre|post)\n")


class MigrationError(TaskerError):
    """A migration is malformed, was changed after it was applied, or failed."""

    reason = "MIGRATION_FAILED"


class SchemaVersionError(TaskerError):
    """The database's schema is not one that this code runs on."""

    reason = "SCHEMA_VERSION_UNSUPPORTED"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `NNNN_what.sql`, whose first line gives its phase."""

    version: int
    name: str
    phase: Phase
    statements: str
    checksum: str


def migrations_folder() -> Path:
    """Return where the SQL files are: inside the installed package, or at the root of a source checkout."""
    installed = Path(str(files("tasker.persistence").joinpath("migrations")))
    return installed if installed.is_dir() else Path(__file__).parents[3] / "migrations"


def load_migrations(folder: Path | None = None) -> tuple[Migration, ...]:
    """Read all migrations in order.

    Raises:
        MigrationError: A file name, the phase line or the numbering is wrong.
    """
    found = []
    for path in sorted((folder or migrations_folder()).glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        name, phase = _FILE_NAME.fullmatch(path.name), _PHASE.match(text)
        if name is None or phase is None:
            raise MigrationError(
                f"{path.name}: name it NNNN_what.sql and begin it with '-- phase: pre' or '-- phase: post'"
            )
        found.append(
            Migration(
                int(name["version"]),
                name["name"],
                "pre" if phase[1] == "pre" else "post",
                text,
                hashlib.sha256(text.encode()).hexdigest(),
            )
        )
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migration numbers must run from 0001 without gap or repetition")
    return tuple(found)


def migrate(conninfo: str, *, phases: Sequence[Phase] = ("pre", "post")) -> tuple[Migration, ...]:
    """Apply what is missing and return it. PGMQ comes first: the extension where offered, else its SQL.

    Services may be at work: a file that meets their locks gives way and is tried again for a minute.

    Raises:
        MigrationError: An applied file has changed since, a file failed, or something else kept a table locked; files
            before it stay applied.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        try:
            _prepare(connection)
        except psycopg.errors.InsufficientPrivilege as error:
            raise MigrationError(
                f"the user {connection.info.user} may not create schemas: {error.diag.message_primary}; "
                "run `tasker migrate` as the owner of the database"
            ) from error
        return tuple(_apply(connection, phases))


async def check_schema(database: Database) -> None:
    """Refuse a schema that this code does not run on.

    Raises:
        SchemaVersionError: With what to do.
    """
    try:
        version = await _version(database)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaVersionError(
            f"the user of DATABASE_URL may not use Tasker's schema: {error.diag.message_primary}; "
            "name the user that ran `tasker migrate`"
        ) from error
    if version is None:
        raise SchemaVersionError("the database has no Tasker schema yet; run `tasker migrate`")
    if version < OLDEST_SCHEMA:
        raise SchemaVersionError(
            f"the database's schema is version {version}, this code needs {OLDEST_SCHEMA} or later; "
            "run `tasker migrate`"
        )
    if version > NEWEST_SCHEMA:
        raise SchemaVersionError(
            f"the database's schema is version {version}, this code knows up to {NEWEST_SCHEMA}; upgrade Tasker"
        )


async def _version(database: Database) -> int | None:
    """Return the schema's version, None if there is no schema."""
    if not await database.fetch_one("SELECT 1 WHERE to_regclass('tasker.schema_migrations') IS NOT NULL"):
        return None
    ((version,),) = await database.fetch_all("SELECT max(version) FROM tasker.schema_migrations")
    return None if version is None else int(version)


def _prepare(connection: Connection[Any]) -> None:
    with connection.transaction():
        offered = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pgmq'").fetchone()
        present = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'pgmq'").fetchone()
        if not present and offered:
            connection.execute("CREATE EXTENSION pgmq")
        elif not present:
            from pgmq.install import get_embedded_install_sql

            connection.execute(get_embedded_install_sql().encode())
        connection.execute("CREATE SCHEMA IF NOT EXISTS tasker")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS tasker.schema_migrations (version integer PRIMARY KEY, name text NOT NULL, "
            "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )


def _apply(connection: Connection[Any], phases: Sequence[Phase]) -> Iterator[Migration]:
    applied: dict[int, str] = dict(
        connection.execute("SELECT version, checksum FROM tasker.schema_migrations").fetchall()
    )
    for migration in load_migrations():
        if (checksum := applied.get(migration.version)) is not None:
            if checksum != migration.checksum:
                raise MigrationError(
                    f"migration {migration.version:04}_{migration.name} has changed since it was applied; "
                    "restore the file and put the change into a new one"
                )
            continue
        if migration.phase not in phases:
            continue
        try:
            _run_between_locks(connection, migration)
        except psycopg.Error as error:
            raise MigrationError(
                f"migration {migration.version:04}_{migration.name} failed: {error}"
            ) from error
        yield migration


def _run_between_locks(connection: Connection[Any], migration: Migration) -> None:
    """Run one file, again when it meets other sessions' locks: the services take theirs in other orders than files do.

    Raises:
        MigrationError: It met locks for too long.
    """
    try:
        Retrying(
            retry=retry_if_exception_type(_LOCK_CONFLICTS),
            stop=stop_after_delay(_LOCK_PATIENCE_SECONDS),
            wait=wait_random(*_PAUSE_SECONDS),
            reraise=True,
        )(_run, connection, migration)
    except _LOCK_CONFLICTS as error:
        raise MigrationError(
            f"migration {migration.version:04}_{migration.name} did not get its locks within "
            f"{_LOCK_PATIENCE_SECONDS:.0f} s, and nothing of it is applied: {error.diag.message_primary}; "
            f"{_oldest_holder(connection)}; end what holds the tables or wait for it, else stop the services, "
            "and run `tasker migrate` again"
        ) from error


def _run(connection: Connection[Any], migration: Migration) -> None:
    with connection.transaction():
        connection.execute(
            "SELECT set_config('lock_timeout', %s, true)", (f"{_LOCK_TIMEOUT_SECONDS * 1000:.0f}ms",)
        )
        connection.execute(migration.statements.encode())
        connection.execute(
            "INSERT INTO tasker.schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
            (migration.version, migration.name, migration.checksum),
        )


def _oldest_holder(connection: Connection[Any]) -> str:
    """Say who has held locks on our tables for longest: what a migration that gave up most likely waited for."""
    found = connection.execute(
        """
        SELECT a.pid, a.application_name, a.state, floor(extract(epoch FROM clock_timestamp() - a.xact_start))::bigint
        FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND EXISTS (
            SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
            JOIN pg_database d ON d.oid = l.database AND d.datname = a.datname
            WHERE l.pid = a.pid AND l.granted
            AND c.relnamespace IN (to_regnamespace('tasker'), to_regnamespace('pgmq')))
        ORDER BY a.xact_start
        LIMIT 1
        """
    ).fetchone()
    if found is None:
        return "no session holds locks on Tasker's tables any more"
    pid, name, state, seconds = found
    if seconds is None:  # only the session's own user and monitoring roles see what it does
        return f"process {pid} of another database user holds locks on Tasker's tables"
    return f"process {pid} ('{name}', {state}) has held locks on Tasker's tables for up to {seconds} s"
