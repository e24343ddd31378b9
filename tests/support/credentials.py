"""Keys, tokens and certificates, made for the tests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeAlias

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "tasker-core"
AUDIENCE = "tasker-api"

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def rsa_key(name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the RSA key of a name, the same each time: it takes a while to make one."""
    return _rsa_key(name, bits)


def ec_key(name: str = "first") -> ec.EllipticCurvePrivateKey:
    """Return the key on P-256 of a name."""
    return _ec_key(name)


@cache
def _rsa_key(name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def _ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key: PrivateKey, key_id: str, **more: Any) -> dict[str, Any]:
    """Return the public part of a key as a key set lists it."""
    fields = (
        RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        if isinstance(key, rsa.RSAPrivateKey)
        else ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    )
    return {key: value for key, value in fields.items() if key != "key_ops"} | {"kid": key_id} | more


def token(
    *permissions: str, key: Any = None, algorithm: str = "RS256", key_id: str | None = None, **claims: Any
) -> str:
    """Return a token; a claim of None is left out."""
    now = int(time.time())
    given: dict[str, Any] = {
        "sub": "ada",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 600,
        "permissions": list(permissions),
    }
    body = {name: value for name, value in (given | claims).items() if value is not None}
    headers = {"kid": key_id} if key_id is not None else None
    return jwt.encode(body, key or rsa_key(), algorithm=algorithm, headers=headers)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, in files.

    Attributes:
        cert: The file of the certificate.
        key: The file of its private key.
    """

    cert: Path
    key: Path


class Authority:
    """Signs certificates for servers and clients.

    Attributes:
        ca: The file of its own certificate.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec_key(f"{folder}/{name}")
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._signed(self._name, self._key, is_authority=True)
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, hosts: tuple[str, ...] = ("localhost", "127.0.0.1")) -> Certificate:
        """Write a certificate for a server or a client; one of the same name is replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key, hosts=hosts)
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        made.key.write_bytes(private_pem(key))
        made.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
        return made

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        hosts: tuple[str, ...] = (),
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
