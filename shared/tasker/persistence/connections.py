"""One connection to PostgreSQL: where it leads, how it is set up, and whether it is still there."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tasker.domain.errors import TaskerError
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = AsyncConnection[Row]


class DatabaseUrlError(TaskerError):
    """The database URL cannot be used."""

    reason = "DATABASE_URL_INVALID"


def conninfo(url: str, *, application_name: str) -> str:
    """Return libpq parameters for a database URL.

    Raises:
        DatabaseUrlError: libpq cannot read it; the message names the fix and never holds the URL.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise DatabaseUrlError(
            "DATABASE_URL is not a PostgreSQL URL; give postgresql://user:password@host:port/database"
        ) from None
    ports = str(given.get("port", "")).split(",")
    if not all(port.isdecimal() and int(port) < 65_536 for port in ports if port):
        raise DatabaseUrlError(
            "DATABASE_URL has something else than a number up to 65535 as port; if that is part of the password, "
            "percent-encode its special characters"
        )
    # A peer that vanished without a word is noticed within a minute, also by a connection that only listens.
    defaults: dict[str, Any] = {
        "connect_timeout": 10,
        "application_name": application_name,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    return make_conninfo("", **(defaults | given))


def hung_up(connection: Connection) -> bool:
    """Tell whether the server has closed an idle connection, without asking it."""
    if not connection.closed:
        with contextlib.suppress(psycopg.Error):
            connection.pgconn.consume_input()  # its last words
            connection.pgconn.consume_input()  # the end
    return connection.closed


async def check(connection: Connection) -> None:
    """Refuse a connection that the server has closed."""
    if hung_up(connection):
        raise psycopg.OperationalError("the server has closed the connection")


def _pass_on(diagnostic: psycopg.errors.Diagnostic) -> None:
    """Log what a function of ours has to tell, and what it, or the server, warns of."""
    if diagnostic.schema_name == "tasker" and diagnostic.message_primary:
        log.warning(diagnostic.message_primary, **json.loads(diagnostic.message_detail or "{}"))
    elif diagnostic.severity_nonlocalized == "WARNING":
        log.warning("database_warning", message=diagnostic.message_primary, detail=diagnostic.message_detail)


async def configure(connection: Connection) -> None:
    """Set a new connection up: statements are transactions of their own, prepared when first used."""
    await connection.set_autocommit(True)
    connection.add_notice_handler(_pass_on)
    # Everything goes by key: a plan made while a table was tiny must not read all of it ever after.
    # Until PostgreSQL 17 a plan that reads a small table all the same counts as so dear that it is compiled each time.
    await connection.execute(
        "SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)"
    )
    connection.prepare_threshold = 0


#: The engine's functions have one plan each, whatever the statistics say.
PINNED: Final = """
    SELECT set_config(name, setting, false)
    FROM (VALUES ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('enable_bitmapscan', 'off'),
                 ('plan_cache_mode', 'force_generic_plan')) AS pinned(name, setting)
"""
