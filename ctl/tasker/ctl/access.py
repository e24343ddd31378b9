"""How commands get into a service: what proves who calls, and TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias, cast

import typer

from tasker.client import AccessOptions

Token: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="TASKER_AUTH_TOKEN", metavar="TOKEN|@FILE", help="Proves who calls.", show_default=False
    ),
]
ApiKey: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="TASKER_API_KEY", metavar="KEY|@FILE", help="Proves it without a token.", show_default=False
    ),
]
ApiKeyHeader: TypeAlias = Annotated[
    str, typer.Option(envvar="TASKER_API_KEY_HEADER", metavar="NAME", help="What carries the key.")
]
Tls: TypeAlias = Annotated[
    bool, typer.Option("--tls", envvar="TASKER_CLIENT_TLS", help="Speak TLS; so do --ca and --cert.")
]
Ca: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="TASKER_CLIENT_CA",
        metavar="FILE",
        help="Authorities that vouch for the service.",
        show_default="those gRPC knows",
    ),
]
Cert: TypeAlias = Annotated[
    str | None,
    typer.Option(envvar="TASKER_CLIENT_CERT", metavar="FILE", help="Your certificate.", show_default=False),
]
Key: TypeAlias = Annotated[
    str | None,
    typer.Option(envvar="TASKER_CLIENT_KEY", metavar="FILE", help="Its private key.", show_default=False),
]
AllowPlaintext: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-plaintext",
        envvar="TASKER_CLIENT_ALLOW_PLAINTEXT",
        help="Send token or key to another machine without TLS.",
    ),
]


def access_options(
    *,
    token: str | None,
    api_key: str | None,
    api_key_header: str,
    tls: bool,
    ca: str | None,
    cert: str | None,
    key: str | None,
    allow_plaintext: bool,
) -> AccessOptions:
    """Return what was given, as a client takes it. A secret may stand in a file: lists of processes show arguments.

    Raises:
        BadParameter: There is no such file.
    """
    given = {
        "token": _text("--token", token),
        "api_key": _text("--api-key", api_key),
        "api_key_header": api_key_header,
        "tls": tls,
        "ca": ca,
        "cert": cert,
        "key": key,
        "allow_plaintext": allow_plaintext,
    }
    return cast("AccessOptions", {name: value for name, value in given.items() if value})


def _text(option: str, value: str | None) -> str | None:
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise typer.BadParameter(f"cannot read {value[1:]}: {problem}", param_hint=option) from None
