"""What every command that calls a service shares: its options, its client, its way to fail."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Final, TypeVar
from uuid import UUID

import typer

from tasker.client import (
    DeadlineExceededError,
    TaskerClient,
    TaskerClientError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from tasker.ctl.access import access_options
from tasker.ctl.event_loop import run
from tasker.ctl.output import Output

Returned = TypeVar("Returned")

ADDRESS_VARIABLE: Final = "TASKER_ADDRESS"
DEFAULT_ADDRESS: Final = "127.0.0.1:9190"
DEFAULT_TIMEOUT: Final = 10.0

Address = Annotated[
    str,
    typer.Option(
        "--address",
        help="Where the orchestration service listens; unix:/path for a socket.",
        envvar=ADDRESS_VARIABLE,
        metavar="HOST:PORT",
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", help="How long the service may take to answer.", min=0.1, metavar="SECONDS"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line; errors too, on stderr.")]
TaskUuid = Annotated[UUID, typer.Argument(help="The task.", metavar="TASK_UUID", show_default=False)]

# What gRPC says when it found nobody to talk to, in words for people.
_REASONS: Final = (
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED"),
        "its certificate is from an authority that --ca does not name",
    ),
    (re.compile(r"Hostname Verification Check failed"), "its certificate is for another host"),
    (re.compile(r"WRONG_VERSION_NUMBER"), "it speaks no TLS"),
    (
        re.compile(r"failed to connect to all addresses.*Socket closed", re.DOTALL),
        "it hung up, as services do that want TLS (--tls, --ca) or a certificate of yours (--cert, --key)",
    ),
    (re.compile(r"Connection refused"), "nothing listens there"),
    (re.compile(r"hostname lookup|DNS resolution|Name or service not known"), "there is no such host"),
    (re.compile(r"No such file or directory"), "there is no such socket"),
    (re.compile(r"failed to connect to all addresses"), "it cannot be reached"),
)


def ask(
    question: Callable[[TaskerClient], Awaitable[Returned]], address: str, timeout: float, output: Output
) -> Returned:
    """Return what a service answers to one question, and show meanwhile that it is asked."""

    async def work() -> Returned:
        async with connected(address, timeout) as client:
            with output.busy(f"Asking {address}"):
                return await question(client)

    return run(work())


@asynccontextmanager
async def connected(address: str, timeout: float) -> AsyncIterator[TaskerClient]:
    """Yield a client of a service; an error that has to do with the address says which one and how to name another."""
    try:
        client = TaskerClient(address, timeout_seconds=timeout, **access_options())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        async with client:
            yield client
    except (UnavailableError, DeadlineExceededError, UnimplementedError, UnauthenticatedError) as error:
        raise _located(error, address, timeout) from None


def _located(error: TaskerClientError, address: str, timeout: float) -> TaskerClientError:
    if isinstance(error, DeadlineExceededError):
        problem = f"it did not answer within {timeout:g} s"
        remedy = "give it more time with --timeout, or check how it is with `tasker health`"
    elif isinstance(error, UnimplementedError):
        problem = "it does not know this call"
        remedy = "name an orchestration service (port 9190) with --address or TASKER_ADDRESS, and one of this version"
    elif isinstance(error, UnauthenticatedError):
        problem = "it does not know you"
        remedy = (
            "give it a valid token with --token (TASKER_AUTH_TOKEN) or a key with --api-key (TASKER_API_KEY)"
        )
    else:
        said = str(error)
        unreached = next((reason for pattern, reason in _REASONS if pattern.search(said)), None)
        if unreached is None:  # it answered, and said itself what to do
            return error
        problem = unreached
        remedy = "start it, or name another one with --address or TASKER_ADDRESS"
    return type(error)(
        f"cannot use the service at {address}: {problem}; {remedy}",
        code=error.code,
        reason=error.reason,
        metadata=error.metadata,
        violations=error.violations,
        retry_after_seconds=error.retry_after_seconds,
    )
