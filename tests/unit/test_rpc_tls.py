"""TLS of a server: real handshakes, with clients who show a certificate and clients who do not."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from tasker.rpc.key_files import KeyFileError
from tasker.rpc.security import Security
from tasker.rpc.server import RpcServer, build_server
from tasker.rpc.tls import TlsFiles
from tests.support.credentials import Authority, Certificate, ec_key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def certificate(authority: Authority) -> Certificate:
    return authority.issue("server")


def tls_server(files: TlsFiles, address: str = "127.0.0.1:0") -> RpcServer:
    return build_server(address, services=[], security=Security(tls=files))


async def asked(
    server: RpcServer, ca: Path | None = None, client: Certificate | None = None, *, address: str = ""
) -> StatusCode:
    """Shake hands anew and ask for the server's health; return how that ends."""
    credentials = _credentials(ca, client) if ca else None
    options = (
        ("grpc.use_local_subchannel_pool", 1),  # or the next channel would find this one's connection
        ("grpc.default_authority", "localhost"),
    )
    target = address or server.address
    channel = (
        aio.secure_channel(target, credentials, options=options)
        if credentials
        else aio.insecure_channel(target, options=options)
    )
    async with channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        except aio.AioRpcError as error:
            return error.code()
        return StatusCode.OK


def _credentials(ca: Path, client: Certificate | None) -> grpc.ChannelCredentials:
    key, cert = (client.key.read_bytes(), client.cert.read_bytes()) if client else (None, None)
    return grpc.ssl_channel_credentials(ca.read_bytes(), key, cert)


async def test_a_client_that_trusts_the_authority_is_answered(
    authority: Authority, certificate: Certificate, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with tls_server(TlsFiles(certificate.cert, certificate.key)) as server:
        assert await asked(server, authority.ca) is StatusCode.OK
        assert await asked(server, stranger.ca) is StatusCode.UNAVAILABLE
        assert await asked(server) is StatusCode.UNAVAILABLE  # in plaintext


async def test_a_unix_socket_speaks_tls_too(
    authority: Authority, certificate: Certificate, tmp_path: Path
) -> None:
    async with tls_server(TlsFiles(certificate.cert, certificate.key), f"unix:{tmp_path}/rpc") as server:
        assert await asked(server, authority.ca) is StatusCode.OK
        assert await asked(server) is StatusCode.UNAVAILABLE


async def test_with_mutual_tls_only_clients_with_a_certificate_are_answered(
    authority: Authority, certificate: Certificate, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    files = TlsFiles(certificate.cert, certificate.key, client_ca=authority.ca)
    async with tls_server(files) as server:
        assert await asked(server, authority.ca, authority.issue("client", hosts=())) is StatusCode.OK
        assert await asked(server, authority.ca) is StatusCode.UNAVAILABLE
        assert await asked(server, authority.ca, stranger.issue("client")) is StatusCode.UNAVAILABLE


async def test_a_certificate_is_replaced_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    old = authority.issue("server")
    async with tls_server(TlsFiles(old.cert, old.key, client_ca=authority.ca)) as server:
        client = authority.issue("client")
        assert await asked(server, authority.ca, client) is StatusCode.OK
        other.issue("server")  # of the same name: it takes the place of the files
        os.replace(other.ca, authority.ca)
        assert await asked(server, authority.ca, client) is StatusCode.UNAVAILABLE
        assert await asked(server, authority.ca, other.issue("client")) is StatusCode.OK


async def test_files_that_do_not_belong_together_leave_the_last_good_ones_in_place(
    authority: Authority, certificate: Certificate, tmp_path: Path
) -> None:
    files = TlsFiles(certificate.cert, certificate.key)
    async with tls_server(files) as server:
        half = certificate.key.read_bytes()
        authority.issue("server")
        new = certificate.key.read_bytes()
        certificate.key.write_bytes(half)  # the certificate is new, its key still the old one
        with capture_logs() as logs:
            assert await asked(server, authority.ca) is StatusCode.OK
            assert await asked(server, authority.ca) is StatusCode.OK
        (told,) = [log for log in logs if log["event"] == "key_files_not_reloaded"]
        assert "is not the private key of the certificate" in told["problem"]
        certificate.key.write_bytes(new)
        with capture_logs() as logs:
            assert await asked(server, authority.ca) is StatusCode.OK
        assert [log["event"] for log in logs] == ["key_files_reloaded"]


async def test_files_that_cannot_be_used_keep_a_server_from_being_built(
    authority: Authority, certificate: Certificate, tmp_path: Path
) -> None:
    nothing, empty, encrypted = tmp_path / "nothing.pem", tmp_path / "empty.pem", tmp_path / "encrypted.key"
    empty.write_bytes(b"")
    encrypted.write_bytes(
        ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    other = authority.issue("other")
    cert, key = certificate.cert, certificate.key
    for files, culprit, problem in (
        (TlsFiles(nothing, key), nothing, "cannot be read: No such file or directory"),
        (TlsFiles(cert, nothing), nothing, "cannot be read: No such file or directory"),
        (TlsFiles(tmp_path, key), tmp_path, "cannot be read: Is a directory"),
        (TlsFiles(empty, key), empty, "holds no certificate in PEM that can be used"),
        (TlsFiles(key, key), key, "holds no certificate in PEM that can be used"),
        (TlsFiles(cert, empty), empty, "holds no private key in PEM that can be used"),
        (TlsFiles(cert, cert), cert, "holds no private key in PEM that can be used"),
        (
            TlsFiles(cert, encrypted),
            encrypted,
            "holds an encrypted private key; decrypt it, nobody is there to ask",
        ),
        (TlsFiles(cert, other.key), other.key, f"is not the private key of the certificate in {cert}"),
        (TlsFiles(cert, key, client_ca=nothing), nothing, "cannot be read: No such file or directory"),
        (TlsFiles(cert, key, client_ca=key), key, "holds no certificate in PEM that can be used"),
    ):
        with pytest.raises(KeyFileError) as caught:
            tls_server(files)
        assert str(caught.value) == f"{culprit}: {problem}"
        assert caught.value.source == str(culprit)


async def test_a_server_says_when_others_can_reach_it(certificate: Certificate) -> None:
    tls = TlsFiles(certificate.cert, certificate.key)
    for address, security, expected in (
        ("127.0.0.1:0", Security(), set()),
        ("[::1]:0", Security(), set()),
        ("0.0.0.0:0", Security(), {"server_lets_everybody_in", "server_speaks_plaintext"}),
        ("0.0.0.0:0", Security(tls=tls), {"server_lets_everybody_in"}),
    ):
        with capture_logs() as logs:
            async with build_server(address, services=[], security=security) as server:
                assert {log["event"] for log in logs} == expected
                assert {log["address"] for log in logs} <= {server.address}
                assert {log["log_level"] for log in logs} <= {"warning"}
