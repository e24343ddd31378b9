"""How a client proves who it is, keeps what it says from others, and finds its way past proxies."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tasker.client import (
    AccessOptions,
    PermissionDeniedError,
    SyncTaskerClient,
    TaskerClient,
    UnauthenticatedError,
    UnavailableError,
)
from tasker.config.settings import OrchestrationSettings
from tasker.domain.addresses import is_local
from tasker.rpc.credentials.api_keys import hash_key
from tasker.rpc.security import security_of
from tasker.rpc.server import build_server
from tasker.v1 import common_pb2, tasks_pb2
from tests.support.credentials import Authority, public_pem, rsa_key, token
from tests.unit.client.scripted import TASK, Act, Script, registrations, sends, task_message

KEY = "the key of the tests"
TASK_READ = sends(tasks_pb2.GetTaskResponse(task=task_message()))


@asynccontextmanager
async def guarded(*acts: Act, address: str = "127.0.0.1:0", **given: Any) -> AsyncIterator[str]:
    """Play the acts to whoever has a good token or API key; yield the address."""
    entry = {"key": hash_key(KEY), "permissions": ["tasks:*"], "description": "tests"}
    settings: dict[str, Any] = {
        "database_url": "postgresql://nowhere/none",
        "auth_enabled": True,
        "jwt_public_key": public_pem(rsa_key()).decode(),
        "api_keys": json.dumps([entry]),
    }
    services = list(registrations(Script(acts or (TASK_READ,))))
    security = security_of(OrchestrationSettings.load(**settings | given))
    async with build_server(address, services=services, security=security) as server:
        yield server.address


async def reads(address: str, **access: Any) -> bool:
    """Return whether a client with this access is answered."""
    async with TaskerClient(address, timeout_seconds=2, **access) as client:
        try:
            return (await client.get(TASK)).task_uuid == TASK
        except (UnauthenticatedError, UnavailableError):
            return False


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


# Credentials


async def test_a_token_is_sent_with_every_call() -> None:
    async with guarded() as address:
        assert await reads(address, token=token("tasks:read"))
        assert await reads(address, token=f"{token('tasks:read')}\n")  # as files have it
        assert not await reads(address, token="bad")
        assert not await reads(address, token="")
        assert not await reads(address)
        async with TaskerClient(address, token=token("tasks:list")) as client:
            with pytest.raises(PermissionDeniedError, match="lacks the permission 'tasks:read'") as caught:
                await client.get(TASK)
            assert caught.value.metadata == {"permission": "tasks:read"}


async def test_a_function_is_asked_for_a_token_before_every_call() -> None:
    tokens = iter([token("tasks:read"), token("tasks:list"), token("tasks:read")])
    async with guarded() as address, TaskerClient(address, token=lambda: next(tokens)) as client:
        await client.get(TASK)
        with pytest.raises(PermissionDeniedError):
            await client.get(TASK)
        await client.get(TASK)


async def test_an_api_key_is_sent_if_there_is_no_token() -> None:
    async with guarded() as address:
        assert await reads(address, api_key=KEY)
        assert not await reads(address, api_key="bad")
        assert not await reads(address, api_key=KEY, token="bad")
    async with guarded(api_key_header="X-Tasker-Key") as address:
        assert await reads(address, api_key=KEY, api_key_header="X-Tasker-Key")
        assert not await reads(address, api_key=KEY)


async def test_streams_carry_the_credentials_too() -> None:
    last = tasks_pb2.TaskStatusUpdate(
        update_type=tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_COMPLETE,
        task_state=common_pb2.TASK_STATE_COMPLETE,
        cursor="1",
    )
    async with guarded(sends(last)) as address:
        async with TaskerClient(address, token=token("tasks:read")) as client:
            updates = [update async for update in client.watch(TASK)]
            assert len(updates) == 1
        async with TaskerClient(address) as client:
            with pytest.raises(UnauthenticatedError):
                await anext(client.watch(TASK))


async def test_the_sync_client_takes_the_same(authority: Authority) -> None:
    certificate = authority.issue("server")
    async with guarded(tls_cert_path=certificate.cert, tls_key_path=certificate.key) as address:

        def read(**access: Any) -> str:
            with SyncTaskerClient(address, **access) as client:
                return str(client.get(TASK).task_uuid)

        assert await asyncio.to_thread(read, api_key=KEY, ca=authority.ca) == str(TASK)
        with pytest.raises(UnauthenticatedError):
            await asyncio.to_thread(read, ca=authority.ca)


# TLS


async def test_tls_is_spoken_with_a_service_that_an_authority_vouches_for(
    authority: Authority, tmp_path: Path
) -> None:
    server = authority.issue("server")
    stranger = Authority(tmp_path, "stranger")
    async with guarded(tls_cert_path=server.cert, tls_key_path=server.key) as address:
        assert await reads(address, api_key=KEY, ca=authority.ca)
        assert await reads(address, api_key=KEY, ca=str(authority.ca), tls=True)
        assert not await reads(address, api_key=KEY, ca=stranger.ca)
        assert not await reads(address, api_key=KEY, tls=True)  # nobody else knows this authority
        assert not await reads(address, api_key=KEY)


async def test_mutual_tls_shows_a_certificate(authority: Authority) -> None:
    server, mine = authority.issue("server"), authority.issue("client", hosts=())
    files: dict[str, Any] = {
        "tls_cert_path": server.cert,
        "tls_key_path": server.key,
        "tls_client_ca_path": authority.ca,
    }
    async with guarded(**files) as address:
        assert await reads(address, api_key=KEY, ca=authority.ca, cert=mine.cert, key=mine.key)
        assert not await reads(address, api_key=KEY, ca=authority.ca)


async def test_a_socket_carries_it_all(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("server")
    given: dict[str, Any] = {"tls_cert_path": server.cert, "tls_key_path": server.key}
    async with guarded(address=f"unix:{tmp_path}/tls", **given) as address:
        assert await reads(address, token=token("tasks:read"), ca=authority.ca)
    async with guarded(address=f"unix:{tmp_path}/plain") as address:
        assert await reads(address, token=token("tasks:read"))


def test_what_does_not_go_together_is_refused_at_once(authority: Authority, tmp_path: Path) -> None:
    mine, other = authority.issue("client"), authority.issue("other")
    nothing = tmp_path / "nothing.pem"
    cases: list[tuple[AccessOptions, type[Exception], str]] = [
        ({"cert": mine.cert}, ValueError, "needs its private key"),
        ({"key": mine.key}, ValueError, "needs its private key"),
        ({"ca": authority.ca, "tls": False}, ValueError, "TLS is switched off"),
        ({"ca": mine.key}, ValueError, f"{mine.key} holds no certificate in PEM"),
        (
            {"cert": mine.cert, "key": other.key},
            ValueError,
            f"{other.key} holds no private key .* of the cert",
        ),
        ({"cert": mine.cert, "key": mine.cert}, ValueError, f"{mine.cert} holds no private key"),
        ({"ca": nothing}, FileNotFoundError, str(nothing)),
        ({"cert": nothing, "key": mine.key}, FileNotFoundError, str(nothing)),
        ({"cert": mine.cert, "key": nothing}, FileNotFoundError, str(nothing)),
    ]
    for access, kind, problem in cases:
        for client in (TaskerClient, SyncTaskerClient):
            with pytest.raises(kind, match=problem):
                client("127.0.0.1:1", **access)


# Plaintext


def test_credentials_never_leave_this_machine_in_plaintext_by_mistake(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "secret-of-the-test"
    ways: list[AccessOptions] = [{"token": secret}, {"api_key": secret}, {"token": lambda: secret}]
    for access in ways:
        with pytest.raises(ValueError, match=r"would go to tasker\.example:9190 in plaintext") as caught:
            TaskerClient("tasker.example:9190", **access)
        assert secret not in str(caught.value)
        TaskerClient("127.0.0.1:9190", **access)
        encrypted: AccessOptions = {**access, "ca": authority.ca}
        TaskerClient("tasker.example:9190", **encrypted)
        assert not caplog.records
        allowed: AccessOptions = {**access, "allow_plaintext": True}
        with caplog.at_level(logging.WARNING):
            TaskerClient("tasker.example:9190", **allowed)
        assert [record.getMessage() for record in caplog.records] == [
            "credentials go to tasker.example:9190 in plaintext: everybody on the way can read them"
        ]
        caplog.clear()
    TaskerClient("tasker.example:9190")  # without credentials there is nothing to lose


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:9190", "127.9.9.9:1", "localhost:9190", "LOCALHOST:1", "[::1]:9190", "unix:/run/tasker",
        "unix-abstract:tasker", "dns:///localhost:9190", "ipv4:127.0.0.1:9190", "ipv6:[::1]:9190",
        "[::ffff:127.0.0.1]:9190", "::1",
    ],
)  # fmt: skip
def test_what_stays_on_this_machine(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:9190", "[::]:9190", "10.0.0.1:9190", "localhost.example:9190", "127.0.0.1.example:9190", "host", "",
        "dns:///tasker.example:9190", "dns://127.0.0.1/tasker.example:9190", "[2001:db8::1]:9190", ":9190",
    ],
)  # fmt: skip
def test_what_others_are_on_the_way_to(address: str) -> None:
    assert not is_local(address)


# Proxies


class Proxy:
    """Connects whoever asks for `tasker.example` with one port on this machine, and remembers who was asked for."""

    def __init__(self, port: int) -> None:
        self.asked_for: list[str] = []
        self._port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked_for.append(head.split()[1])
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(self._pass(reader, there), self._pass(there_reader, writer))

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
async def test_a_service_on_this_machine_is_never_looked_for_behind_a_proxy(
    name: str, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv(name, "http://127.0.0.1:9")  # nobody is there
    async with guarded() as address:
        assert await reads(address, api_key=KEY)
        assert await reads(address.replace("127.0.0.1", "localhost"), api_key=KEY)


async def test_other_services_are_found_behind_a_proxy(
    authority: Authority, no_proxies: pytest.MonkeyPatch
) -> None:
    certificate = authority.issue("server", hosts=("tasker.example",))
    async with guarded(tls_cert_path=certificate.cert, tls_key_path=certificate.key) as address:
        proxy = Proxy(int(address.rpartition(":")[2]))
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            no_proxies.setenv("http_proxy", f"http://127.0.0.1:{port}")
            assert await reads("tasker.example:9190", api_key=KEY, ca=authority.ca)
            assert proxy.asked_for == ["tasker.example:9190"]
