"""What to say about a call that a service refused or did not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
from tasker.ctl.failures import ExitCode, Failure

#: Every other error of the client is a plain failure.
_EXIT_CODE_OF: Final[Mapping[type[TaskerClientError], ExitCode]] = {
    InvalidArgumentError: ExitCode.USAGE,
    UnauthenticatedError: ExitCode.AUTH,
    PermissionDeniedError: ExitCode.AUTH,
    NotFoundError: ExitCode.NOT_FOUND,
    UnavailableError: ExitCode.UNAVAILABLE,
    DeadlineExceededError: ExitCode.UNAVAILABLE,
    ResourceExhaustedError: ExitCode.UNAVAILABLE,
}


def call_failure(error: BaseException) -> Failure | None:
    """Return what to say about a call that failed; None if the error is none of a call's."""
    if not isinstance(error, TaskerClientError):
        return None
    exit_code = _EXIT_CODE_OF.get(type(error), ExitCode.FAILURE)
    if error.reason == "TEMPLATE_NOT_FOUND":  # a creation that names no template is refused as a bad argument
        exit_code = ExitCode.NOT_FOUND
    return Failure.of(error, str(error), exit_code, code=error.code.name)
