"""Public keys that tokens are verified with, from PEM texts: as many as there are, so that they can be rotated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tasker.rpc.key_files import KeyFileError, Reloaded

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey

MIN_RSA_BITS: Final = 2048

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_CURVES: Final = {"ES256": SECP256R1, "ES384": SECP384R1}


class VerificationKeys(Protocol):
    """Where a verifier finds the keys that a token may be signed with."""

    async def start(self) -> None:
        """Get ready."""

    async def stop(self) -> None:
        """Let go of everything."""

    async def candidates(self, key_id: str | None) -> Sequence[PublicKey]:
        """Return the keys that a token with this `kid` may be verified with.

        Raises:
            CredentialRefusedError: There is no key of that name.
            UnavailableError: The keys are not known now.
        """


class StaticKeys:
    """Keys that are set; a token is good if any of them has signed it, whatever `kid` it names."""

    def __init__(self, keys: Reloaded[tuple[PublicKey, ...]]) -> None:
        self._keys = keys

    async def start(self) -> None:
        """Nothing has to be made ready."""

    async def stop(self) -> None:
        """Nothing is held."""

    async def candidates(self, key_id: str | None) -> Sequence[PublicKey]:
        """Return all of them."""
        return self._keys.current()


def suits(key: PublicKey, algorithm: str) -> bool:
    """Return whether a key can be used with an algorithm, so that a token cannot choose another one for it."""
    if algorithm in _CURVES:
        return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, _CURVES[algorithm])
    return algorithm.startswith(("RS", "PS")) and isinstance(key, RSAPublicKey)


def parse_public_keys(pem: bytes, *, source: str) -> tuple[PublicKey, ...]:
    """Return the public keys in a PEM text, those of certificates among them.

    Args:
        pem: One block after the other.
        source: Where it stands, for messages.

    Raises:
        KeyFileError: There is none in it, or one that cannot be used.
    """
    blocks = list(_BLOCK.finditer(pem))
    if not blocks:
        raise KeyFileError(source, "has no PEM block (-----BEGIN PUBLIC KEY----- ...)")
    return tuple(_public_key(block[0], block[1].decode(), source) for block in blocks)


def check_public_key(key: object) -> PublicKey:
    """Return a key that tokens can be verified with.

    Raises:
        ValueError: It is another one, or too short.
    """
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key of {key.key_size} bits is too short; take {MIN_RSA_BITS} or more")
        return key
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, tuple(_CURVES.values())):
        return key
    raise ValueError("is neither an RSA key nor one on the curves P-256 and P-384")


def _public_key(block: bytes, kind: str, source: str) -> PublicKey:
    if kind.endswith("PRIVATE KEY"):
        raise KeyFileError(source, "holds a private key; services need the public one, and nothing else")
    try:
        if kind == "CERTIFICATE":
            return check_public_key(x509.load_pem_x509_certificate(block).public_key())
        key = load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(source, "holds a PEM block that is no public key we can use") from None
    try:
        return check_public_key(key)
    except ValueError as error:
        raise KeyFileError(source, str(error)) from None
