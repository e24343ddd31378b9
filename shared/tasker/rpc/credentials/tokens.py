"""JSON Web Tokens: signed by somebody we trust, meant for us, not expired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import jwt

from tasker.rpc.credentials.public_keys import PublicKey, VerificationKeys, suits
from tasker.rpc.credentials.refusals import CredentialRefusedError, Granting
from tasker.rpc.permissions import Caller

Algorithm: TypeAlias = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"]

_REQUIRED: Final = ("sub", "iss", "aud", "iat", "exp")

#: What comes of texts that are no token: numbers and depths that JSON's parser does not bear are among it.
_NO_TOKEN: Final = (jwt.PyJWTError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say.

    Attributes:
        issuer: Who must have issued it.
        audience: Whom it must be meant for.
        algorithms: How it may be signed; what the token says of it is believed only if it is one of these.
        leeway_seconds: How far the clocks of issuer and service may be apart.
        permissions_claim: Which claim grants permissions: a list of texts, or one text with blanks between them.
    """

    issuer: str = "tasker-core"
    audience: str = "tasker-api"
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    leeway_seconds: float = 60
    permissions_claim: str = "permissions"


class TokenVerifier:
    """Decides whether a token is good, and what it grants."""

    def __init__(self, rules: TokenRules, keys: VerificationKeys, granting: Granting) -> None:
        self._rules = rules
        self._keys = keys
        self._granting = granting

    async def start(self) -> None:
        """Get the keys."""
        await self._keys.start()

    async def stop(self) -> None:
        """Let go of everything."""
        await self._keys.stop()

    async def verify(self, token: str) -> Caller:
        """Return whose a token is.

        Raises:
            CredentialRefusedError: It is not good.
            UnavailableError: That cannot be told now, since the keys cannot be fetched.
        """
        header = _header(token)
        algorithm = header.get("alg")
        if algorithm not in self._rules.algorithms:
            raise CredentialRefusedError("invalid", "its algorithm is not allowed")
        key_id = header.get("kid")
        candidates = await self._keys.candidates(key_id if isinstance(key_id, str) else None)
        claims = self._claims(token, algorithm, [key for key in candidates if suits(key, algorithm)])
        subject = str(claims["sub"])
        return Caller(subject, "jwt", self._granting.known(self._granted(claims), subject=subject))

    def _claims(self, token: str, algorithm: str, keys: list[PublicKey]) -> Mapping[str, Any]:
        for key in keys:
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=self._rules.audience,
                    issuer=self._rules.issuer,
                    leeway=self._rules.leeway_seconds,
                    options={"require": list(_REQUIRED)},
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                raise CredentialRefusedError("expired", "it has expired") from None
            except _NO_TOKEN as error:
                raise CredentialRefusedError("invalid", str(error)) from None
        raise CredentialRefusedError("invalid", "none of the keys has signed it")

    def _granted(self, claims: Mapping[str, Any]) -> list[str]:
        granted = claims.get(self._rules.permissions_claim, [])
        if isinstance(granted, str):
            return granted.split()
        if not isinstance(granted, list) or not all(isinstance(one, str) for one in granted):
            raise CredentialRefusedError("invalid", "its permissions are no list of texts")
        return granted


def _header(token: str) -> Mapping[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except _NO_TOKEN:
        raise CredentialRefusedError("malformed", "it is no token") from None
