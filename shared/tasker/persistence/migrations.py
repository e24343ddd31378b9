"""The migration runner: what a database lacks of the schema's files, in one transaction under one lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from packaging.version import Version
from psycopg import Connection, IsolationLevel, sql
from psycopg.rows import class_row, scalar_row
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from tasker.domain.errors import TaskerError
from tasker.persistence.database import Database
from tasker.persistence.queries import Queries
from tasker.persistence.schema_files import (
    FunctionFile,
    Migration,
    MigrationError,
    Phase,
    load_functions,
    load_migrations,
)
from tasker.version import VERSION

#: The schema that this code needs. There may be more of it: `pre` migrations of a newer release precede its code.
OLDEST_SCHEMA: Final = 14

_LOCK_KEY: Final = 0x7461736B6572  # "tasker"
#: Whoever wants a table that a migration waits for queues behind it; so it waits briefly, and gives way in between.
_LOCK_TIMEOUT_SECONDS: Final = 3.0
_PAUSE_SECONDS: Final = (0.5, 3.0)
#: A try that ends later than this after the first began is the last one.
_LOCK_PATIENCE_SECONDS: Final = 60.0
_LOCK_CONFLICTS: Final = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)

_UNRELEASED: Final = (
    "the database's schema comes from before Tasker's first release, and no way leads on from there; use an empty "
    "database, or drop the schemas tasker and pgmq of this one with all they hold; then run `tasker migrate`"
)


class SchemaVersionError(TaskerError):
    """The database's schema is not one that this code runs on."""

    reason = "SCHEMA_VERSION_UNSUPPORTED"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run of the migrations has to do, or has done.

    Attributes:
        pgmq: Whether PGMQ is installed by it.
        migrations: Those not applied yet, in order.
        functions: The files whose text is another than the one applied last.
        newer: Of the files that a newer release has written, each with that release: they stay as they are.
        confirmed: The names of the files that an older release has written in the same words. That this one has them
            too is noted, so that an older release with others does not overwrite them later.
    """

    pgmq: bool
    migrations: tuple[Migration, ...]
    functions: tuple[FunctionFile, ...]
    newer: tuple[tuple[FunctionFile, str], ...]
    confirmed: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.pgmq or self.migrations or self.functions)


@dataclass(frozen=True, slots=True)
class _Applied:
    """A file as the database has it: a migration's version or a function file's name, and who wrote that."""

    key: int | str
    checksum: str
    release: str


_FUNCTIONS: Final = "SELECT name AS key, checksum, release FROM tasker.schema_functions"


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of ours in the database."""

    oid: int
    name: str
    language: str


@dataclass(frozen=True, slots=True)
class _Locking:
    """A session that has our tables locked; what it does is seen only by its own user and monitoring roles."""

    pid: int
    application_name: str | None
    state: str | None
    seconds: int | None


class _NoLockError(Exception):
    """A file met locks of other sessions."""

    def __init__(self, file: object, cause: psycopg.Error) -> None:
        super().__init__()
        self.file = file
        self.cause = cause


def plan(conninfo: str, *, phases: Sequence[Phase] = ("pre", "post")) -> Plan:
    """Return what `migrate` would do, without doing it.

    Raises:
        MigrationError: An applied file has changed since, or no migration leads on from this schema.
    """
    with psycopg.connect(conninfo) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ  # somebody may be migrating
        return _plan(connection, phases)


def migrate(conninfo: str, *, phases: Sequence[Phase] = ("pre", "post"), release: str = VERSION) -> Plan:
    """Apply what is missing, all of it or nothing, and return it.

    PGMQ comes first: the extension where offered, else its SQL. Then the migrations, then the functions. Services may
    be at work: whoever meets their locks gives way and tries again for a minute.

    Args:
        conninfo: The database.
        phases: `pre` is what precedes the new code, its functions included, `post` what follows when the old code is
            gone.
        release: Who writes: a function that a newer release has written is left as it is.

    Raises:
        MigrationError: An applied file has changed since, a file failed, or something else kept a table locked.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        try:
            return _run_between_locks(connection, phases, release)
        except psycopg.errors.InsufficientPrivilege as error:
            raise MigrationError(
                f"the user {connection.info.user} may not create schemas: {error.diag.message_primary}; "
                "run `tasker migrate` as the owner of the database"
            ) from error


async def check_schema(database: Database) -> None:
    """Refuse a schema that this code does not run on.

    Raises:
        SchemaVersionError: With what to do.
    """
    try:
        async with database.snapshot() as snapshot:  # somebody may be migrating
            problem = await _problem_of(snapshot)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaVersionError(
            f"the user of DATABASE_URL may not use Tasker's schema: {error.diag.message_primary}; "
            "name the user that ran `tasker migrate`"
        ) from error
    if problem:
        raise SchemaVersionError(problem)


async def _problem_of(queries: Queries) -> str | None:
    """Return what is wrong with the schema, and what to do."""
    if not await queries.fetch_value("SELECT to_regclass('tasker.schema_migrations') IS NOT NULL"):
        return "the database has no Tasker schema yet; run `tasker migrate`"
    if not await queries.fetch_value("SELECT to_regclass('tasker.schema_functions') IS NOT NULL"):
        return _UNRELEASED
    version = await queries.fetch_value("SELECT max(version) FROM tasker.schema_migrations")
    if version is None:
        return "the database has no Tasker schema yet; run `tasker migrate`"
    if version < OLDEST_SCHEMA:
        return (
            f"the database's schema is version {version}, this code needs {OLDEST_SCHEMA} or later; "
            "run `tasker migrate`"
        )
    ended_by = await queries.fetch_value(
        "SELECT max(version) FROM tasker.schema_migrations WHERE version > %s AND phase = 'post'",
        (len(load_migrations()),),
    )
    if ended_by is not None:
        return (
            f"the database's schema is version {version}, and version {ended_by} has taken away what this code "
            "needs; upgrade Tasker"
        )
    applied = {row.key: row for row in await queries.fetch_all(_Applied, _FUNCTIONS)}
    if old := [file.name for file in load_functions() if _is_due(file, applied, VERSION)]:
        return f"the database's functions are not those of this release (of {', '.join(old)}); run `tasker migrate`"
    return None


def _plan(connection: Connection[Any], phases: Sequence[Phase], release: str = VERSION) -> Plan:
    migrations, functions = _applied(connection)
    due: list[Migration] = []
    for migration in load_migrations():
        if (applied := migrations.get(migration.version)) is None:
            if migration.phase in phases:
                due.append(migration)
        elif applied.checksum != migration.checksum:
            raise MigrationError(
                f"migration {migration} has changed since it was applied; "
                "restore the file and put the change into a new one"
            )
    files = load_functions() if "pre" in phases else ()
    return Plan(
        not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'pgmq'").fetchone(),
        tuple(due),
        tuple(file for file in files if _is_due(file, functions, release)),
        tuple(
            (file, functions[file.name].release)
            for file in files
            if _is_newer(functions.get(file.name), release)
        ),
        tuple(file.name for file in files if _is_confirmed(file, functions, release)),
    )


def _applied(connection: Connection[Any]) -> tuple[dict[Any, _Applied], dict[Any, _Applied]]:
    """Return what the database has of migrations, by version, and of files of functions, by name."""
    names = ("tasker.schema_migrations", "tasker.schema_functions")
    with connection.cursor(row_factory=scalar_row) as scalars:
        migrations, functions = (
            scalars.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone() for name in names
        )
    if not migrations:
        return {}, {}
    if not functions:
        raise MigrationError(_UNRELEASED)
    with connection.cursor(row_factory=class_row(_Applied)) as cursor:
        found = [
            {row.key: row for row in cursor.execute(query)}
            for query in (
                "SELECT version AS key, checksum, release FROM tasker.schema_migrations",
                _FUNCTIONS,
            )
        ]
    return found[0], found[1]


def _is_due(file: FunctionFile, applied: dict[Any, _Applied], release: str) -> bool:
    """Tell whether the database lacks a file's text, and no newer release has put another in its place."""
    before = applied.get(file.name)
    return before is None or (before.checksum != file.checksum and not _is_newer(before, release))


def _is_confirmed(file: FunctionFile, applied: dict[Any, _Applied], release: str) -> bool:
    """Tell whether an older release has put the file's text there."""
    before = applied.get(file.name)
    return (
        before is not None and before.checksum == file.checksum and Version(before.release) < Version(release)
    )


def _is_newer(applied: _Applied | None, release: str) -> bool:
    return applied is not None and Version(applied.release) > Version(release)


def _run_between_locks(connection: Connection[Any], phases: Sequence[Phase], release: str) -> Plan:
    """Run, again when a file meets other sessions' locks: the services take theirs in other orders than files do.

    Raises:
        MigrationError: It met locks for too long.
    """
    try:
        return Retrying(
            retry=retry_if_exception_type(_NoLockError),
            stop=stop_after_delay(_LOCK_PATIENCE_SECONDS),
            wait=wait_random(*_PAUSE_SECONDS),
            reraise=True,
        )(_run, connection, phases, release)
    except _NoLockError as error:
        raise MigrationError(
            f"{error.file} did not get its locks within {_LOCK_PATIENCE_SECONDS:.0f} s, and nothing is applied: "
            f"{error.cause.diag.message_primary}; {_longest_locking(connection)}; end what holds the tables or wait "
            "for it, else stop the services, and run `tasker migrate` again"
        ) from error.cause


def _run(connection: Connection[Any], phases: Sequence[Phase], release: str) -> Plan:
    with connection.transaction():
        connection.execute("CREATE SCHEMA IF NOT EXISTS tasker")  # whoever may not is told so at once
        due = _plan(connection, phases, release)
        if due.confirmed:
            connection.execute(
                "UPDATE tasker.schema_functions SET release = %s WHERE name = ANY (%s)",
                (release, list(due.confirmed)),
            )
        if not due:
            return due
        connection.execute(
            "SELECT set_config('lock_timeout', %s, true)", (f"{_LOCK_TIMEOUT_SECONDS * 1000:.0f}ms",)
        )
        _prepare(connection, pgmq=due.pgmq)
        for migration in due.migrations:
            _execute(connection, migration, migration.statements)
            connection.execute(
                "INSERT INTO tasker.schema_migrations (version, name, phase, checksum, release) "
                "VALUES (%s, %s, %s, %s, %s)",
                (migration.version, migration.name, migration.phase, migration.checksum, release),
            )
        if due.functions:
            _write_functions(connection, due.functions, release)
        return due


def _prepare(connection: Connection[Any], *, pgmq: bool) -> None:
    if pgmq:
        offered = "SELECT 1 FROM pg_available_extensions WHERE name = 'pgmq'"
        if connection.execute(offered).fetchone():
            connection.execute("CREATE EXTENSION pgmq")
        else:
            from pgmq.install import get_embedded_install_sql

            connection.execute(get_embedded_install_sql().encode())
    connection.execute(
        "CREATE TABLE IF NOT EXISTS tasker.schema_migrations (version integer PRIMARY KEY, name text NOT NULL, "
        "phase text NOT NULL, checksum text NOT NULL, release text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    connection.execute(
        "CREATE TABLE IF NOT EXISTS tasker.schema_functions (name text PRIMARY KEY, checksum text NOT NULL, "
        "release text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )


def _write_functions(connection: Connection[Any], files: Sequence[FunctionFile], release: str) -> None:
    """Apply files of functions, in any order: their bodies are checked when all of them are there."""
    connection.execute("SET LOCAL check_function_bodies = off")
    for file in files:
        _execute(connection, file, file.statements)
        connection.execute(
            "INSERT INTO tasker.schema_functions AS f (name, checksum, release) VALUES (%s, %s, %s) "
            "ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, release = excluded.release, "
            "applied_at = excluded.applied_at",
            (file.name, file.checksum, release),
        )
    connection.execute("SET LOCAL check_function_bodies = on")
    _refuse_overloads(connection)
    _check_bodies(connection)


def _refuse_overloads(connection: Connection[Any]) -> None:
    """Refuse two functions of one name: the services that still run call the older one."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        twice = cursor.execute(
            "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'tasker'::regnamespace "
            "GROUP BY p.proname HAVING count(*) > 1 ORDER BY p.proname"
        ).fetchall()
    if twice:
        raise MigrationError(
            f"the parameters of {', '.join(twice)} have changed; {_NEW_VERSION} until a `post` migration drops it"
        )


_NEW_VERSION: Final = "give the changed function the next version in its name (_v2) and keep the old one"


def _check_bodies(connection: Connection[Any]) -> None:
    with connection.cursor(row_factory=class_row(_Function)) as cursor:
        functions = cursor.execute(
            "SELECT p.oid, p.proname AS name, l.lanname AS language FROM pg_proc p "
            "JOIN pg_language l ON l.oid = p.prolang "
            "WHERE p.pronamespace = 'tasker'::regnamespace ORDER BY p.proname"
        ).fetchall()
    for function in functions:
        validator = "plpgsql_validator" if function.language == "plpgsql" else "fmgr_sql_validator"
        try:
            connection.execute(sql.SQL("SELECT {}(%s)").format(sql.Identifier(validator)), (function.oid,))
        except psycopg.Error as error:
            raise MigrationError(f"the function {function.name} is wrong: {error}") from error


def _execute(connection: Connection[Any], file: object, statements: str) -> None:
    try:
        connection.execute(statements.encode())
    except _LOCK_CONFLICTS as error:
        raise _NoLockError(file, error) from error
    except psycopg.errors.InvalidFunctionDefinition as error:
        raise MigrationError(f"{file} failed: {error}; {_NEW_VERSION}") from error
    except psycopg.errors.InsufficientPrivilege:
        raise
    except psycopg.Error as error:
        raise MigrationError(f"{file} failed: {error}") from error


def _longest_locking(connection: Connection[Any]) -> str:
    """Say which session has had our tables locked for longest: what a migration that gave up most likely waited for."""
    query = """
        SELECT a.pid, a.application_name, a.state,
               floor(extract(epoch FROM clock_timestamp() - a.xact_start))::bigint AS seconds
        FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND EXISTS (
            SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
            JOIN pg_database d ON d.oid = l.database AND d.datname = a.datname
            WHERE l.pid = a.pid AND l.granted
            AND c.relnamespace IN (to_regnamespace('tasker'), to_regnamespace('pgmq')))
        ORDER BY a.xact_start
        LIMIT 1
    """
    with connection.cursor(row_factory=class_row(_Locking)) as cursor:
        found = cursor.execute(query).fetchone()
    if found is None:
        return "no session holds locks on Tasker's tables any more"
    if found.seconds is None:
        return f"process {found.pid} of another database user holds locks on Tasker's tables"
    return (
        f"process {found.pid} ('{found.application_name}', {found.state}) has held locks on Tasker's tables for up to "
        f"{found.seconds} s"
    )
