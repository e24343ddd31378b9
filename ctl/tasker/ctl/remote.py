"""What every command that calls a service shares: its options, its client, its way to fail."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final, Self, TypeVar

import typer

from tasker.client import (
    AccessOptions,
    DeadlineExceededError,
    TaskerClient,
    TaskerClientError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from tasker.ctl.access import (
    AllowPlaintext,
    ApiKey,
    ApiKeyHeader,
    Ca,
    Cert,
    Key,
    Tls,
    Token,
    access_options,
)
from tasker.ctl.event_loop import run
from tasker.ctl.output import Output

Returned = TypeVar("Returned")

ADDRESS_VARIABLE: Final = "TASKER_ADDRESS"
DEFAULT_ADDRESS: Final = "127.0.0.1:9190"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line; errors too, on stderr.")]

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


@dataclass(frozen=True, slots=True)
class Service:
    """The service that a command asks.

    Attributes:
        address: Where it listens.
        timeout_seconds: How long it may take to answer.
        output: Where the command prints what it says.
        access: How the command gets in.
    """

    address: str
    timeout_seconds: float
    output: Output
    access: AccessOptions

    @classmethod
    def from_options(
        cls,
        address: Annotated[
            str,
            typer.Option(
                help="Where the orchestration service listens; unix:/path for a socket.",
                envvar=ADDRESS_VARIABLE,
                metavar="HOST:PORT",
            ),
        ] = DEFAULT_ADDRESS,
        timeout: Annotated[
            float,
            typer.Option(help="How long the service may take to answer.", min=0.1, metavar="SECONDS"),
        ] = 10.0,
        as_json: AsJson = False,
        token: Token = None,
        api_key: ApiKey = None,
        api_key_header: ApiKeyHeader = "x-api-key",
        tls: Tls = False,
        ca: Ca = None,
        cert: Cert = None,
        key: Key = None,
        allow_plaintext: AllowPlaintext = False,
    ) -> Self:
        """Return the service that the options of a command name."""
        access = access_options(
            token=token,
            api_key=api_key,
            api_key_header=api_key_header,
            tls=tls,
            ca=ca,
            cert=cert,
            key=key,
            allow_plaintext=allow_plaintext,
        )
        return cls(address, timeout, Output(as_json=as_json), access)

    def ask(self, question: Callable[[TaskerClient], Awaitable[Returned]]) -> Returned:
        """Return what the service answers to one question, and show meanwhile that it is asked."""

        async def work() -> Returned:
            async with self.connected() as client:
                with self.busy():
                    return await question(client)

        return run(work())

    def busy(self) -> AbstractContextManager[None]:
        """Show that the service is asked, for as long as the block takes."""
        return self.output.busy(f"Asking {self.address}")

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[TaskerClient]:
        """Yield a client; an error that has to do with the address says which one and how to name another."""
        try:
            client = TaskerClient(self.address, timeout_seconds=self.timeout_seconds, **self.access)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        try:
            async with client:
                yield client
        except (UnavailableError, DeadlineExceededError, UnimplementedError, UnauthenticatedError) as error:
            raise _located(error, self.address, self.timeout_seconds) from None


def _located(error: TaskerClientError, address: str, timeout_seconds: float) -> TaskerClientError:
    if isinstance(error, DeadlineExceededError):
        problem = f"it did not answer within {timeout_seconds:g} s"
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
