"""TLS of a server: its certificate, and whose clients' certificates it trusts, both replaced without a restart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from tasker.rpc.key_files import KeyFileError, Reloaded, read_key_file


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where TLS takes what it needs from; all of it in PEM.

    Attributes:
        cert: The server's certificate, and behind it those that lead to an authority.
        key: Its private key, unencrypted.
        client_ca: Authorities of clients' certificates. With it clients without such a certificate are refused
            (mutual TLS).
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(path for path in (self.cert, self.key, self.client_ca) if path is not None)


@dataclass(frozen=True, slots=True)
class _Material:
    """What the files hold."""

    cert: bytes
    key: bytes
    client_ca: bytes | None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.cert)], self.client_ca)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that look at each handshake whether the files have changed.

    Files that cannot be used, or do not belong together, as happens while they are being replaced, are left aside
    until they do; the last good ones stay.

    Raises:
        KeyFileError: They cannot be used now; it names the file.
    """
    reloaded = Reloaded(files.paths, lambda: _read(files))
    given = reloaded.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        now = reloaded.current()
        if now is given:
            return None
        given = now
        return now.configuration()

    return grpc.dynamic_ssl_server_credentials(
        given.configuration(),
        fetch,  # type: ignore[arg-type]  # the stub forgets that None stands for no change
        require_client_authentication=files.client_ca is not None,
    )


def _read(files: TlsFiles) -> _Material:
    """Return what the files hold, checked: grpc would only say that no handshake succeeds."""
    cert, key = read_key_file(files.cert), read_key_file(files.key)
    first = _certificates(cert, files.cert)[0]
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise KeyFileError(
            str(files.key), "holds an encrypted private key; decrypt it, nobody is there to ask"
        ) from None
    except ValueError:
        raise KeyFileError(str(files.key), "holds no private key in PEM that can be used") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != first.public_key().public_bytes(*form):
        raise KeyFileError(str(files.key), f"is not the private key of the certificate in {files.cert}")
    client_ca = None
    if files.client_ca is not None:
        client_ca = read_key_file(files.client_ca)
        _certificates(client_ca, files.client_ca)
    return _Material(cert, key, client_ca)


def _certificates(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise KeyFileError(str(path), "holds no certificate in PEM that can be used") from None
