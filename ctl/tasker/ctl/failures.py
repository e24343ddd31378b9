"""What stopped a command, as one line a person can act on and an exit code a script can."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import typer

from tasker.client import (
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    TaskerClientError,
    UnauthenticatedError,
    UnavailableError,
)
from tasker.config.settings import SettingsError
from tasker.domain.errors import FieldViolation, TaskerError
from tasker.persistence.connections import DatabaseUrlError
from tasker.persistence.embedded import EmbeddedServerError
from tasker.persistence.failures import is_transient
from tasker.rpc.server import BindError
from tasker.worker import HandlerImportError
from tasker.worker.runtime.templates import TemplateDirectoryError


class ExitCode(IntEnum):
    """How a command ends."""

    CLEAN = 0
    FAILURE = 1
    USAGE = 2
    AUTH = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Failure:
    """A line for people, a code for scripts, and all of it for programs.

    Attributes:
        line: What is wrong and what to do about it.
        exit_code: How the command ends.
        code: The gRPC status, or the nearest one where no service was asked.
        reason: Stable identifier of the cause.
        fields: What is wrong with which argument or field of the request.
        metadata: Facts that belong to the reason.
    """

    line: str
    exit_code: ExitCode
    code: str
    reason: str
    fields: tuple[FieldViolation, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> str:
        """The failure as one JSON object on a line."""
        facts = {
            "code": self.code,
            "message": self.line,
            "reason": self.reason,
            "fields": [{"field": one.field, "description": one.description} for one in self.fields],
            "metadata": dict(self.metadata),
        }
        return json.dumps(facts)


#: The nearest class in an exception's family decides; every other error of ours is a plain failure.
_EXIT_CODE_OF: Final[Mapping[type[Exception], ExitCode]] = {
    SettingsError: ExitCode.USAGE,
    DatabaseUrlError: ExitCode.USAGE,
    TemplateDirectoryError: ExitCode.USAGE,
    BindError: ExitCode.UNAVAILABLE,
    EmbeddedServerError: ExitCode.UNAVAILABLE,
    InvalidArgumentError: ExitCode.USAGE,
    UnauthenticatedError: ExitCode.AUTH,
    PermissionDeniedError: ExitCode.AUTH,
    NotFoundError: ExitCode.NOT_FOUND,
    UnavailableError: ExitCode.UNAVAILABLE,
    DeadlineExceededError: ExitCode.UNAVAILABLE,
    ResourceExhaustedError: ExitCode.UNAVAILABLE,
    TaskerClientError: ExitCode.FAILURE,
    TaskerError: ExitCode.FAILURE,
}

#: The status of what no service said, by how the command ends.
_CODE_OF: Final[Mapping[ExitCode, str]] = {
    ExitCode.USAGE: "INVALID_ARGUMENT",
    ExitCode.UNAVAILABLE: "UNAVAILABLE",
}

# What libpq says may quote parts of a URL it misread, the password among them. So its words are not passed on, only
# what these find in them: a server that exists, and names that this server has been asked for.
_REASONS: Final = (
    (re.compile(r'password authentication failed for user "([^"]+)"'), "the password of user {} is wrong"),
    (re.compile(r'role "([^"]+)" does not exist'), "the server has no user {}"),
    (re.compile(r'database "([^"]+)" does not exist'), "the server has no database {}"),
    (re.compile(r"too many (clients|connections)"), "it has no connection left"),
    (re.compile(r"starting up|shutting down"), "it is starting or stopping"),
    (re.compile(r'server at "([^"]+)".* port (\d+) failed: Connection refused'), "nothing listens on {}:{}"),
    (re.compile(r'connection to server on socket "([^"]+)" failed'), "no server has the socket {}"),
    (re.compile(r"timeout"), "there was no answer in time"),
    (re.compile(r"resolve host|translate host name"), "there is no such host"),
)  # fmt: skip


def failure_of(error: Exception) -> Failure | None:
    """Return what to say about an error, or None if it is a bug and the trace is what is needed."""
    exit_code = next((_EXIT_CODE_OF[kind] for kind in type(error).__mro__ if kind in _EXIT_CODE_OF), None)
    if exit_code is not None:
        if getattr(error, "reason", "") == "TEMPLATE_NOT_FOUND":
            exit_code = (
                ExitCode.NOT_FOUND
            )  # as a creation that names no template is refused as a bad argument
        return _failure(_one_line(error), exit_code, error)
    if isinstance(error, OSError):
        what = f"cannot use {error.filename}: {error.strerror}" if error.filename else str(error)
        return _failure(what, ExitCode.FAILURE, error) if what else None
    if is_transient(error):
        reason = _database_reason(str(error))
        line = f"cannot use the database: {reason}; check DATABASE_URL, and that the database is up"
        return _failure(line, ExitCode.UNAVAILABLE, error)
    return None


def usage_failure(error: typer.TyperException) -> Failure:
    """Return what to say about arguments that are wrong."""
    context: typer.Context | None = getattr(error, "ctx", None)
    parameter = getattr(error, "param", None)
    name = getattr(error, "param_hint", None) or (parameter and parameter.opts[0]) or ""
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    line = " ".join(f"{error.format_message()}{hint}".split())
    return Failure(
        line, ExitCode.USAGE, "INVALID_ARGUMENT", "USAGE", (FieldViolation(name, error.message or line),)
    )


def _failure(line: str, exit_code: ExitCode, error: Exception) -> Failure:
    code = error.code.name if isinstance(error, TaskerClientError) else _CODE_OF.get(exit_code, "UNKNOWN")
    return Failure(
        line,
        exit_code,
        code,
        getattr(error, "reason", code),
        tuple(getattr(error, "violations", ())),
        getattr(error, "metadata", {}),
    )


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, HandlerImportError):
        text += "; fix it, or name another module or file in PYTHON_HANDLER_PATH (--handlers)"
    if isinstance(error, TemplateDirectoryError):
        text += " (--templates)"
    return " ".join("; ".join([text, *getattr(error, "__notes__", ())]).split())


def _database_reason(said: str) -> str:
    for pattern, reason in _REASONS:
        if found := pattern.search(said):
            return reason.format(*found.groups())
    return "it does not answer"
