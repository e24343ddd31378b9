"""What to say about a call that a service refused or did not answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tasker.client import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    TaskerClientError,
    UnauthenticatedError,
    UnavailableError,
)
from tasker.ctl.failures import ExitCode, Failure

#: Every other error of the client is a plain failure.
_EXIT_CODE_OF: Final[Mapping[type[TaskerClientError], ExitCode]] = {
    InvalidArgumentError: ExitCode.USAGE,
    FailedPreconditionError: ExitCode.USAGE,
    UnauthenticatedError: ExitCode.AUTH,
    PermissionDeniedError: ExitCode.AUTH,
    NotFoundError: ExitCode.NOT_FOUND,
    UnavailableError: ExitCode.UNAVAILABLE,
    DeadlineExceededError: ExitCode.UNAVAILABLE,
    ResourceExhaustedError: ExitCode.UNAVAILABLE,
}


def _conflict(facts: Mapping[str, str]) -> str:
    watch = f"`tasker task watch {facts['task_uuid']}` watches that one; " if "task_uuid" in facts else ""
    return f"{watch}--idempotency-key gives the key"


def _deactivated(facts: Mapping[str, str]) -> str:
    template = f"{facts.get('namespace')}/{facts.get('name')}"
    version = facts.get("version") or "VERSION"
    return (
        f"`tasker template versions {template}` lists them, "
        f"`tasker template activate {template}/{version} --reason WHY` activates one"
    )


#: What helps on the command line, by the reason of the refusal and its facts.
_HINTS: Final[Mapping[str, Callable[[Mapping[str, str]], str]]] = {
    "IDENTITY_CONFLICT": _conflict,
    "TEMPLATE_DEACTIVATED": _deactivated,
    "POISON_NOT_FOUND": lambda _: "`tasker queue poison` lists them",
}


def call_failure(error: BaseException) -> Failure | None:
    """Return what to say about a call that failed; None if the error is none of a call's."""
    if not isinstance(error, TaskerClientError):
        return None
    exit_code = _EXIT_CODE_OF.get(type(error), ExitCode.FAILURE)
    if error.reason == "TEMPLATE_NOT_FOUND":  # a creation that names no template is refused as a bad argument
        exit_code = ExitCode.NOT_FOUND
    hint = _HINTS.get(error.reason)
    line = f"{error} ({hint(error.metadata)})" if hint is not None else str(error)
    return Failure.of(error, line, exit_code, code=error.code.name)
