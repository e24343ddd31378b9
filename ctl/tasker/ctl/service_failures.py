"""What to say about a service that does not run, or about the database, files and handlers it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tasker.config.settings import SettingsError
from tasker.ctl.failures import ExitCode, Failure
from tasker.domain.errors import TaskerError, UnauthenticatedError
from tasker.persistence.connections import DatabaseUrlError
from tasker.persistence.embedded import EmbeddedServerError
from tasker.persistence.failures import is_transient
from tasker.rpc.credentials.locations import KeySetError
from tasker.rpc.key_files import KeyFileError
from tasker.rpc.server import BindError
from tasker.worker import HandlerImportError
from tasker.worker.runtime.templates import TemplateDirectoryError

#: The nearest class in an exception's family decides; every other error of ours is a plain failure.
_EXIT_CODE_OF: Final[Mapping[type[Exception], ExitCode]] = {
    SettingsError: ExitCode.USAGE,
    DatabaseUrlError: ExitCode.USAGE,
    TemplateDirectoryError: ExitCode.USAGE,
    KeyFileError: ExitCode.USAGE,
    KeySetError: ExitCode.USAGE,
    UnauthenticatedError: ExitCode.AUTH,
    BindError: ExitCode.UNAVAILABLE,
    EmbeddedServerError: ExitCode.UNAVAILABLE,
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


def service_failure(error: Exception) -> Failure | None:
    """Return what to say about an error; None if it is a bug."""
    exit_code = next((_EXIT_CODE_OF[kind] for kind in type(error).__mro__ if kind in _EXIT_CODE_OF), None)
    if exit_code is not None:
        return Failure.of(error, _with_remedy(error), exit_code)
    if is_transient(error):
        reason = _database_reason(str(error))
        line = f"cannot use the database: {reason}; check DATABASE_URL, and that the database is up"
        return Failure.of(error, line, ExitCode.UNAVAILABLE)
    return None


def _with_remedy(error: Exception) -> str:
    text = str(error)
    if isinstance(error, HandlerImportError):
        text += "; fix it, or name another module or file in PYTHON_HANDLER_PATH (--handlers)"
    if isinstance(error, TemplateDirectoryError):
        text += " (--templates)"
    return "; ".join([text, *getattr(error, "__notes__", ())])


def _database_reason(said: str) -> str:
    for pattern, reason in _REASONS:
        if found := pattern.search(said):
            return reason.format(*found.groups())
    return "it does not answer"
