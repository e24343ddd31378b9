"""How commands that call a service get in: options that all of them have, and none has to pass on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from tasker.client import AccessOptions

_given: ContextVar[AccessOptions | None] = ContextVar("tasker_access", default=None)


def access_options() -> AccessOptions:
    """Return what the command at hand was given, as a client takes it."""
    return _given.get() or {}


def with_access(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the options; one that calls no service, having no `address`, or has them, as it is."""
    signature = inspect.signature(command, eval_str=True)
    if "address" not in signature.parameters or set(_OPTIONS) <= set(signature.parameters):
        return command

    @wraps(command)
    def call(**arguments: Any) -> Any:
        given = {name: arguments.pop(name) for name in _OPTIONS}
        for secret in ("token", "api_key"):
            given[secret] = _text(secret, given[secret])
        access: Any = {name: value for name, value in given.items() if value not in (None, "", False)}
        _given.set(access)
        return command(**arguments)

    options = inspect.signature(_options, eval_str=True).parameters.values()
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what Typer reads
        parameters=[*signature.parameters.values(), *options]
    )
    return call


def _options(
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TASKER_AUTH_TOKEN", metavar="TOKEN|@FILE", help="Proves who calls.", show_default=False
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="TASKER_API_KEY",
            metavar="KEY|@FILE",
            help="Proves it without a token.",
            show_default=False,
        ),
    ] = None,
    api_key_header: Annotated[
        str | None,
        typer.Option(
            envvar="TASKER_API_KEY_HEADER",
            metavar="NAME",
            help="What carries the key.",
            show_default="x-api-key",
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", envvar="TASKER_CLIENT_TLS", help="Speak TLS; --ca and --cert do, too.")
    ] = False,
    ca: Annotated[
        str | None,
        typer.Option(
            envvar="TASKER_CLIENT_CA",
            metavar="FILE",
            help="Authorities that vouch for the service.",
            show_default="those that gRPC knows",
        ),
    ] = None,
    cert: Annotated[
        str | None,
        typer.Option(
            envvar="TASKER_CLIENT_CERT", metavar="FILE", help="Your own certificate.", show_default=False
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(envvar="TASKER_CLIENT_KEY", metavar="FILE", help="Its private key.", show_default=False),
    ] = None,
    allow_plaintext: Annotated[
        bool,
        typer.Option(
            "--allow-plaintext",
            envvar="TASKER_CLIENT_ALLOW_PLAINTEXT",
            help="Send token or key without TLS to another machine.",
        ),
    ] = False,
) -> None: ...


_OPTIONS: Final = tuple(inspect.signature(_options).parameters)


def _text(option: str, value: str | None) -> str | None:
    """Return a secret; from a file if `@FILE` names one, so that no list of processes shows it."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        hint = "--" + option.replace("_", "-")
        raise typer.BadParameter(f"cannot read {value[1:]}: {problem}", param_hint=hint) from None
