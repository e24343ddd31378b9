"""What stopped a command, as one line a person can act on and an exit code a script can."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from tasker.client import TaskerClientError, UnavailableError
from tasker.config.settings import SettingsError
from tasker.domain.errors import TaskerError
from tasker.persistence.database import DatabaseUrlError, is_transient
from tasker.persistence.embedded import EmbeddedServerError
from tasker.rpc.server import BindError
from tasker.worker import HandlerImportError
from tasker.worker.runtime.templates import TemplateDirectoryError


class ExitCode(IntEnum):
    """How a command ends (spec 50 section 4)."""

    CLEAN = 0
    FAILURE = 1
    USAGE = 2
    UNAVAILABLE = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """A line for people and a code for scripts."""

    line: str
    exit_code: ExitCode


#: The nearest class in an exception's family decides; every other error of ours is a plain failure.
_EXIT_CODE_OF: Final[Mapping[type[Exception], ExitCode]] = {
    SettingsError: ExitCode.USAGE,
    DatabaseUrlError: ExitCode.USAGE,
    TemplateDirectoryError: ExitCode.USAGE,
    BindError: ExitCode.UNAVAILABLE,
    EmbeddedServerError: ExitCode.UNAVAILABLE,
    UnavailableError: ExitCode.UNAVAILABLE,
    TaskerClientError: ExitCode.FAILURE,
    TaskerError: ExitCode.FAILURE,
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
    code = next((_EXIT_CODE_OF[kind] for kind in type(error).__mro__ if kind in _EXIT_CODE_OF), None)
    if code is not None:
        return Failure(_one_line(error), code)
    if isinstance(error, OSError):
        what = f"cannot use {error.filename}: {error.strerror}" if error.filename else str(error)
        return Failure(what, ExitCode.FAILURE) if what else None
    if is_transient(error):
        reason = _database_reason(str(error))
        line = f"cannot use the database: {reason}; check DATABASE_URL, and that the database is up"
        return Failure(line, ExitCode.UNAVAILABLE)
    return None


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
