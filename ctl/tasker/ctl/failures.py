"""What stopped a command, as one line a person can act on and an exit code a script can."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import typer

from tasker.domain.errors import FieldViolation


class ExitCode(IntEnum):
    """How a command ends."""

    CLEAN = 0
    FAILURE = 1
    USAGE = 2
    AUTH = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    INTERRUPTED = 130


#: The status of what no service said, by how the command ends.
_CODE_OF: Final[Mapping[ExitCode, str]] = {
    ExitCode.USAGE: "INVALID_ARGUMENT",
    ExitCode.NOT_FOUND: "NOT_FOUND",
    ExitCode.UNAVAILABLE: "UNAVAILABLE",
}


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

    @classmethod
    def of(cls, error: Exception, line: str, exit_code: ExitCode, *, code: str | None = None) -> Failure:
        """Return the failure with the facts that an error carries."""
        code = code or _CODE_OF.get(exit_code, "UNKNOWN")
        return Failure(
            " ".join(line.split()),
            exit_code,
            code,
            getattr(error, "reason", code),
            tuple(getattr(error, "violations", ())),
            getattr(error, "metadata", {}),
        )

    @property
    def facts(self) -> dict[str, object]:
        """All of it, as JSON knows it."""
        return {
            "code": self.code,
            "message": self.line,
            "reason": self.reason,
            "fields": [{"field": one.field, "description": one.description} for one in self.fields],
            "metadata": dict(self.metadata),
        }


class CommandError(Exception):
    """A command cannot do what it was asked to.

    Attributes:
        exit_code: How it ends.
    """

    def __init__(self, line: str, exit_code: ExitCode) -> None:
        super().__init__(line)
        self.exit_code = exit_code


def failure_of(error: Exception) -> Failure | None:
    """Return what to say about an error, or None if it is a bug and the trace is what is needed."""
    if isinstance(error, CommandError):
        return Failure.of(error, str(error), error.exit_code)
    if isinstance(error, OSError):
        what = f"cannot use {error.filename}: {error.strerror}" if error.filename else str(error)
        return Failure.of(error, what, ExitCode.FAILURE) if what else None
    # Imported here: they know errors that few commands can meet, and import where those come from.
    from tasker.ctl.call_failures import call_failure

    if failure := call_failure(error):
        return failure
    from tasker.ctl.service_failures import service_failure

    return service_failure(error)


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


def complain(failure: Failure) -> None:
    """Say on stderr what stopped the command, in the form that was asked for."""
    if "--json" in sys.argv[1:]:
        typer.echo(json.dumps(failure.facts), err=True)
        return
    # Imported here: few commands fail.
    from rich.console import Console
    from rich.text import Text

    from tasker.ctl.output import shown

    line = Text("error: ", style="bold red") + shown(failure.line)
    Console(stderr=True, soft_wrap=True, highlight=False).print(line)
