"""`tasker auth`: keys, tokens and hashes for development, without a service."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import jwt
import typer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from rich.table import Table

from tasker.ctl.output import Output
from tasker.ctl.remote import AsJson
from tasker.domain.errors import UnauthenticatedError
from tasker.rpc.credentials.api_keys import hash_key as hashed
from tasker.rpc.credentials.public_keys import StaticKeys, parse_public_keys
from tasker.rpc.credentials.refusals import CredentialRefusedError, Granting
from tasker.rpc.credentials.tokens import TokenRules, TokenVerifier
from tasker.rpc.key_files import KeyFileError, Reloaded, read_key_file
from tasker.rpc.permissions import PERMISSION_OF, VOCABULARY, Permission

app = typer.Typer(no_args_is_help=True)

_PRIVATE_NAME: Final = "jwt-private.pem"
_PUBLIC_NAME: Final = "jwt-public.pem"
_RULES: Final = TokenRules()

Algorithm = Literal["RS256", "ES256"]
Issuer = Annotated[
    str, typer.Option(envvar="TASKER_JWT_ISSUER", metavar="TEXT", help="Who issues it.", show_default=True)
]
Audience = Annotated[
    str, typer.Option(envvar="TASKER_JWT_AUDIENCE", metavar="TEXT", help="Whom it is for.", show_default=True)
]


@app.callback()
def auth() -> None:
    """Make keys, tokens and hashes of API keys."""


@app.command("generate-keys")
def generate_keys(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write them.")] = Path("keys"),
    algorithm: Annotated[
        Algorithm, typer.Option(help="RS256: an RSA key. ES256: one on the curve P-256.")
    ] = "RS256",
    bits: Annotated[int, typer.Option(min=2048, max=8192, metavar="N", help="Of an RSA key.")] = 2048,
    force: Annotated[bool, typer.Option("--force", help="Replace keys that are there.")] = False,
) -> None:
    """Make a pair of keys for tokens.

    The private one signs them and stays where tokens are made; services verify them with the public one
    (TASKER_JWT_PUBLIC_KEY_PATH).
    """
    private_path, public_path = out / _PRIVATE_NAME, out / _PUBLIC_NAME
    for path in (private_path, public_path):
        if path.exists() and not force:
            raise typer.BadParameter(
                f"{path} is there already, and tokens signed with it would no longer be accepted; name another folder, "
                "or replace it with --force",
                param_hint="--out",
            )
    key = (
        rsa.generate_private_key(public_exponent=65537, key_size=bits)
        if algorithm == "RS256"
        else ec.generate_private_key(ec.SECP256R1())
    )
    out.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    private_path.unlink(missing_ok=True)
    with os.fdopen(os.open(private_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    public_path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    Output(as_json=False).say(f"private key  {private_path}", f"public key   {public_path}")


@app.command()
def token(
    permission: Annotated[
        list[str],
        typer.Option(
            metavar="TEXT",
            help="What it grants, such as tasks:read or tasks:*; may be repeated.",
            show_default=False,
        ),
    ],
    private_key: Annotated[
        Path,
        typer.Option(envvar="TASKER_JWT_PRIVATE_KEY_PATH", metavar="FILE", help="What signs it."),
    ] = Path("keys") / _PRIVATE_NAME,
    subject: Annotated[str, typer.Option(metavar="TEXT", help="Whom it names.")] = "tasker-client",
    hours: Annotated[
        float, typer.Option(min=0.01, max=168, metavar="N", help="How long it is good for.")
    ] = 24,
    key_id: Annotated[
        str | None, typer.Option(metavar="KID", help="Names the key, for key sets.", show_default=False)
    ] = None,
    issuer: Issuer = _RULES.issuer,
    audience: Audience = _RULES.audience,
) -> None:
    """Make a token and print it.

    For development; elsewhere an identity provider makes them.
    """
    if unknown := sorted(set(permission) - VOCABULARY):
        raise typer.BadParameter(
            f"{', '.join(unknown)} is no permission; `tasker auth permissions` lists them",
            param_hint="--permission",
        )
    pem = read_key_file(private_key)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise KeyFileError(str(private_key), "holds no unencrypted private key in PEM") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise KeyFileError(str(private_key), "holds neither an RSA key nor one on a curve")
    now = int(time.time())
    claims = {
        "sub": subject,
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + round(hours * 3600),
        "permissions": list(dict.fromkeys(permission)),
    }
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    headers = {"kid": key_id} if key_id is not None else None
    typer.echo(jwt.encode(claims, key, algorithm=algorithm, headers=headers))


@app.command()
def validate(
    token: Annotated[
        str,
        typer.Argument(metavar="TOKEN|@FILE|@-", help="The token, here or in a file.", show_default=False),
    ],
    public_key: Annotated[
        Path,
        typer.Option(envvar="TASKER_JWT_PUBLIC_KEY_PATH", metavar="FILE", help="What it must be signed for."),
    ] = Path("keys") / _PUBLIC_NAME,
    issuer: Issuer = _RULES.issuer,
    audience: Audience = _RULES.audience,
    as_json: AsJson = False,
) -> None:
    """Check a token as a service would, and show what it grants.

    Unlike a service it says what is wrong with one. The exit code is 3 if a service would refuse it.
    """
    given = _secret(token)
    keys = StaticKeys(
        Reloaded([public_key], lambda: parse_public_keys(read_key_file(public_key), source=str(public_key)))
    )
    verifier = TokenVerifier(TokenRules(issuer, audience), keys, Granting(strict=True))
    try:
        who = asyncio.run(verifier.verify(given))
    except CredentialRefusedError as error:
        raise UnauthenticatedError(
            f"a service would refuse the token ({error.cause}): {error.detail}"
        ) from None
    expires_at = datetime.fromtimestamp(jwt.decode(given, options={"verify_signature": False})["exp"], UTC)
    permissions = sorted(who.permissions)
    output = Output(as_json=as_json)
    if as_json:
        facts = {"subject": who.subject, "permissions": permissions, "expires_at": expires_at}
        output.write(facts)
    else:
        output.say(
            f"subject      {who.subject}",
            f"permissions  {', '.join(permissions) or 'none'}",
            f"expires at   {expires_at.isoformat()}",
        )


@app.command("hash-key")
def hash_key(
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY|@FILE|@-",
            help="The API key; a new one is made if there is none.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a service stores of an API key.

    It goes into the list of TASKER_API_KEYS_FILE; the key itself goes to whoever calls, and nowhere else.
    """
    output = Output(as_json=as_json)
    made = secrets.token_urlsafe(32) if key is None else None
    given = made or _secret(key or "")
    if not given:
        raise typer.BadParameter("an empty text is no key", param_hint="KEY")
    facts = {"key": made, "hash": hashed(given)} if made else {"hash": hashed(given)}
    if as_json:
        output.write(facts)
    elif made:
        output.say(f"key   {made}", f"hash  {facts['hash']}")
    else:
        output.say(hashed(given))


@app.command()
def permissions(as_json: AsJson = False) -> None:
    """List the permissions, and the calls that need them."""
    output = Output(as_json=as_json)
    rows = [(permission, sorted(_calls(permission))) for permission in Permission]
    if as_json:
        for permission, calls in rows:
            output.write({"permission": permission, "calls": calls})
        return
    table = Table("Permission", "Calls", box=None, padding=(0, 2, 0, 0))
    for permission, calls in rows:
        table.add_row(permission, ", ".join(calls) or "none")
    output.say(table)


def _calls(permission: Permission) -> list[str]:
    return [
        f"{service.removeprefix('tasker.v1.')}.{method}"
        for service, methods in PERMISSION_OF.items()
        for method, needed in methods.items()
        if needed is permission
    ]


def _secret(given: str) -> str:
    """Return a secret from the command line, a file (`@FILE`) or standard input (`@-`)."""
    if given == "@-":
        return sys.stdin.read().strip()
    if given.startswith("@"):
        return read_key_file(Path(given[1:])).decode("utf-8", "replace").strip()
    return given.strip()
