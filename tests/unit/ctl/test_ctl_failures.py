"""What stopped a command: one line, no secret, the right exit code."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from tasker import client
from tasker.config.settings import SettingsError
from tasker.ctl.failures import ExitCode, failure_of
from tasker.domain.errors import FieldViolation, TaskNotFoundError
from tasker.persistence.connections import DatabaseUrlError
from tasker.persistence.embedded import EmbeddedServerError
from tasker.persistence.migrations import SchemaVersionError
from tasker.persistence.schema_files import MigrationError
from tasker.rpc.server import BindError
from tasker.worker import HandlerDefinitionError, HandlerImportError
from tasker.worker.runtime.templates import TemplateDirectoryError


def refusal(kind: type[client.TaskerClientError], **facts: Any) -> client.TaskerClientError:
    return kind("no", code=StatusCode.INVALID_ARGUMENT, **facts)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("DATABASE_URL is not set"), ExitCode.USAGE),
        (DatabaseUrlError("DATABASE_URL is not a PostgreSQL URL"), ExitCode.USAGE),
        (TemplateDirectoryError("template directory x does not exist"), ExitCode.USAGE),
        (SchemaVersionError("the database has no Tasker schema yet"), ExitCode.FAILURE),
        (MigrationError("migration 0007_x failed"), ExitCode.FAILURE),
        (HandlerImportError("shop", ImportError("no")), ExitCode.FAILURE),
        (HandlerDefinitionError("handler 'x' is no handler"), ExitCode.FAILURE),
        (TaskNotFoundError(UUID(int=0)), ExitCode.FAILURE),
        (refusal(client.InvalidArgumentError), ExitCode.USAGE),
        (refusal(client.FailedPreconditionError), ExitCode.USAGE),
        (refusal(client.InvalidArgumentError, reason="TEMPLATE_NOT_FOUND"), ExitCode.NOT_FOUND),
        (refusal(client.UnauthenticatedError), ExitCode.AUTH),
        (refusal(client.PermissionDeniedError), ExitCode.AUTH),
        (refusal(client.NotFoundError), ExitCode.NOT_FOUND),
        (refusal(client.UnavailableError), ExitCode.UNAVAILABLE),
        (refusal(client.DeadlineExceededError), ExitCode.UNAVAILABLE),
        (refusal(client.ResourceExhaustedError), ExitCode.UNAVAILABLE),
        (refusal(client.AlreadyExistsError), ExitCode.FAILURE),
        (refusal(client.UnimplementedError), ExitCode.FAILURE),
        (refusal(client.TaskerClientError), ExitCode.FAILURE),
        (BindError("127.0.0.1:9190"), ExitCode.UNAVAILABLE),
        (EmbeddedServerError("the embedded PostgreSQL did not start"), ExitCode.UNAVAILABLE),
        (OperationalError("no"), ExitCode.UNAVAILABLE),
        (PoolTimeout("no"), ExitCode.UNAVAILABLE),
        (PermissionError(13, "Permission denied", "/data"), ExitCode.FAILURE),
    ],
)
def test_exit_codes(error: Exception, code: ExitCode) -> None:
    failure = failure_of(error)
    assert failure is not None
    assert failure.exit_code is code


@pytest.mark.parametrize("bug", [KeyError("x"), RuntimeError("x"), AssertionError(), TypeError("x")])
def test_a_bug_keeps_its_trace(bug: Exception) -> None:
    assert failure_of(bug) is None


def test_a_message_becomes_one_line_with_its_notes() -> None:
    error = HandlerDefinitionError("two\n  lines")
    error.add_note("also: a third")
    failure = failure_of(error)
    assert failure is not None
    assert failure.line == "two lines; also: a third"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused\n'
            "\tIs the server running on that host and accepting TCP/IP connections?",
            "nothing listens on 127.0.0.1:1",
        ),
        (
            'connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory',
            "no server has the socket /run/.s.PGSQL.5432",
        ),
        ("connection timeout expired", "there was no answer in time"),
        ("failed to resolve host 'se@cret': [Errno -2] Name or service not known", "there is no such host"),
        ('FATAL:  password authentication failed for user "ada"', "the password of user ada is wrong"),
        ('FATAL:  role "ada" does not exist', "the server has no user ada"),
        ('FATAL:  database "shop" does not exist', "the server has no database shop"),
        ("FATAL:  sorry, too many clients already", "it has no connection left"),
        ("FATAL:  the database system is starting up", "it is starting or stopping"),
        ('invalid integer value "se" for connection option "port"', "it does not answer"),
    ],
)
def test_libpq_is_not_quoted(said: str, reason: str) -> None:
    """It may quote what it took for a host or a port, and that may be half a password."""
    failure = failure_of(OperationalError(said))
    assert failure is not None
    assert failure.line == (
        f"cannot use the database: {reason}; check DATABASE_URL, and that the database is up"
    )


def test_programs_get_all_that_a_service_said() -> None:
    violations = [FieldViolation("context.number", "is odd"), FieldViolation("priority", "is 101")]
    error = refusal(
        client.InvalidArgumentError, reason="BAD", metadata={"known": "1.0.0"}, violations=violations
    )
    failure = failure_of(error)
    assert failure is not None
    assert failure.facts == {
        "code": "INVALID_ARGUMENT",
        "message": "no",
        "reason": "BAD",
        "fields": [
            {"field": "context.number", "description": "is odd"},
            {"field": "priority", "description": "is 101"},
        ],
        "metadata": {"known": "1.0.0"},
    }


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (SettingsError("DATABASE_URL is not set"), "INVALID_ARGUMENT", SettingsError.reason),
        (OperationalError("no"), "UNAVAILABLE", "UNAVAILABLE"),
        (TaskNotFoundError(UUID(int=0)), "UNKNOWN", "TASK_NOT_FOUND"),
        (PermissionError(13, "Permission denied", "/data"), "UNKNOWN", "UNKNOWN"),
    ],
)
def test_what_no_service_said_has_a_code_all_the_same(error: Exception, code: str, reason: str) -> None:
    failure = failure_of(error)
    assert failure is not None
    facts = failure.facts
    assert (facts["code"], facts["reason"]) == (code, reason)
