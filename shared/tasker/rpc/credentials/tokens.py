"""JSON Web Tokens: signed by somebody we trust, meant for us, not expired."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

import jwt

from tasker.rpc.credentials.public_keys import PublicKey, VerificationKeys, suits
from tasker.rpc.credentials.refusals import CredentialRefusedError, Granting
from tasker.rpc.permissions import Caller

Algorithm: TypeAlias = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"]

#: Tokens that are remembered; the one that came first is forgotten.
_MOST_VERIFIED: Final = 1000

_REQUIRED: Final = ("sub", "iss", "aud", "iat", "exp")

#: What comes of texts that are no token: numbers and depths that JSON's parser does not bear are among it.
_NO_TOKEN: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


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


@dataclass(frozen=True, slots=True)
class _Verified:
    """What was found out about a token: it need not be found out anew with every call."""

    caller: Caller
    key: PublicKey
    good_until: float

    def holds(self, now: float, candidates: Sequence[PublicKey]) -> bool:
        """Return whether it still holds: the key counts, and the token has not expired."""
        return now < self.good_until and any(key is self.key for key in candidates)


class TokenVerifier:
    """Decides whether a token is good, and what it grants.

    To verify a signature takes half a millisecond, so good tokens are remembered, by their hashes.
    """

    def __init__(
        self,
        rules: TokenRules,
        keys: VerificationKeys,
        granting: Granting,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._keys = keys
        self._granting = granting
        self._verified: dict[bytes, _Verified] = {}

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
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._verified.get(digest)
        if known is not None and known.holds(self._clock(), candidates):
            return known.caller
        verified = self._verify(token, algorithm, [key for key in candidates if suits(key, algorithm)])
        self._verified.pop(digest, None)
        if len(self._verified) >= _MOST_VERIFIED:
            self._verified.pop(next(iter(self._verified)))
        self._verified[digest] = verified
        return verified.caller

    def _verify(self, token: str, algorithm: str, keys: list[PublicKey]) -> _Verified:
        key, claims, expires_at = self._signed(token, algorithm, keys)
        subject = str(claims["sub"])
        caller = Caller(subject, "jwt", self._granting.known(self._granted(claims), subject=subject))
        return _Verified(caller, key, expires_at + self._rules.leeway_seconds)

    def _signed(
        self, token: str, algorithm: str, keys: list[PublicKey]
    ) -> tuple[PublicKey, Mapping[str, Any], float]:
        """Return which key has signed a token that is good, what it says, and when it expires."""
        for key in keys:
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=self._rules.audience,
                    issuer=self._rules.issuer,
                    leeway=self._rules.leeway_seconds,
                    options={"require": list(_REQUIRED)},
                )
                return key, claims, float(claims["exp"])
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
