"""Commands that get into a guarded service, commands that do not, and the commands that make credentials."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc import aio

from tasker.client import TaskerClient
from tasker.v1 import worker_pb2, worker_pb2_grpc
from tasker.worker import HandlerRegistry
from tests.support import services
from tests.support.commands import Ended, tasker
from tests.support.credentials import Authority, Certificate, public_pem, rsa_key, token
from tests.unit.client.scripted import TASK
from tests.unit.client.test_client_access import KEY, guarded

GET = ("task", "get", str(TASK), "--timeout", "2", "--json")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def certificate(authority: Authority) -> Certificate:
    return authority.issue("server")


@pytest.fixture
async def plain() -> AsyncIterator[str]:
    async with guarded() as address:
        yield address


@pytest.fixture
async def secure(certificate: Certificate) -> AsyncIterator[str]:
    async with guarded(tls_cert_path=certificate.cert, tls_key_path=certificate.key) as address:
        yield address


def is_answered(ended: Ended) -> bool:
    assert ended.code == 0, ended.err
    return bool(ended.objects[0]["task_uuid"] == str(TASK))


# Getting in


async def test_a_token_comes_by_option_by_variable_or_by_file(plain: str, tmp_path: Path) -> None:
    good = token("tasks:read")
    (tmp_path / "token").write_text(f"{good}\n")
    address = ("--address", plain)
    assert is_answered(await tasker(*GET, *address, "--token", good, cwd=tmp_path))
    assert is_answered(await tasker(*GET, *address, "--token", "@token", cwd=tmp_path))
    assert is_answered(await tasker(*GET, *address, cwd=tmp_path, TASKER_AUTH_TOKEN=good))
    assert is_answered(await tasker(*GET, *address, cwd=tmp_path, TASKER_AUTH_TOKEN="@token"))


async def test_an_api_key_does_too(plain: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    address = ("--address", plain)
    assert is_answered(await tasker(*GET, *address, "--api-key", KEY, cwd=tmp_path))
    assert is_answered(await tasker(*GET, *address, cwd=tmp_path, TASKER_API_KEY="@key"))
    async with guarded(api_key_header="X-Own") as own:
        given = ("--address", own, "--api-key", KEY)
        assert is_answered(await tasker(*GET, *given, "--api-key-header", "x-own", cwd=tmp_path))
        assert is_answered(await tasker(*GET, *given, cwd=tmp_path, TASKER_API_KEY_HEADER="X-OWN"))


async def test_who_is_not_known_or_may_not_ends_with_3(plain: str, tmp_path: Path) -> None:
    unknown = await tasker(*GET[:-1], "--address", plain, cwd=tmp_path)
    assert unknown.code == 3
    assert unknown.error == (
        f"error: cannot use the service at {plain}: it does not know you; give it a valid token with --token "
        "(TASKER_AUTH_TOKEN) or a key with --api-key (TASKER_API_KEY)"
    )
    denied = await tasker(*GET[:-1], "--address", plain, "--token", token("tasks:list"), cwd=tmp_path)
    assert (denied.code, "lacks the permission 'tasks:read'" in denied.error) == (3, True)
    for credential in (("--token", "@none"), ("--api-key", "@none")):
        missing = await tasker(*GET[:-1], *credential, cwd=tmp_path)
        assert (missing.code, "cannot read none: No such file" in missing.error) == (2, True)


async def test_tls_is_spoken_and_what_keeps_it_from_succeeding_is_said(
    secure: str, plain: str, authority: Authority, tmp_path: Path
) -> None:
    Authority(tmp_path, "stranger")
    ca = str(authority.ca)
    key = ("--api-key", KEY)
    assert is_answered(await tasker(*GET, "--address", secure, "--ca", ca, *key, cwd=tmp_path))
    assert is_answered(await tasker(*GET, "--address", secure, *key, cwd=tmp_path, TASKER_CLIENT_CA=ca))
    for address, options, problem in (
        (secure, ("--tls",), "its certificate is from an authority that --ca does not name"),
        (secure, ("--ca", "stranger.pem"), "its certificate is from an authority that --ca does not name"),
        (secure, (), "it hung up, as services do that want TLS (--tls, --ca) or a certificate of yours"),
        (plain, ("--ca", ca), "it speaks no TLS"),
    ):
        refused = await tasker(*GET[:-1], "--address", address, *options, *key, cwd=tmp_path)
        assert (refused.code, problem in refused.error) == (5, True), refused.error


async def test_a_certificate_of_ones_own_is_shown(
    certificate: Certificate, authority: Authority, tmp_path: Path
) -> None:
    mine = authority.issue("client", hosts=())
    async with guarded(
        tls_cert_path=certificate.cert, tls_key_path=certificate.key, tls_client_ca_path=authority.ca
    ) as address:
        given = ("--address", address, "--api-key", KEY, "--ca", str(authority.ca))
        own = ("--cert", str(mine.cert), "--key", str(mine.key))
        assert is_answered(await tasker(*GET, *given, *own, cwd=tmp_path))
        variables = {"TASKER_CLIENT_CERT": mine.cert, "TASKER_CLIENT_KEY": mine.key}
        assert is_answered(await tasker(*GET, *given, cwd=tmp_path, **variables))
        without = await tasker(*GET[:-1], *given, cwd=tmp_path)
        assert (without.code, "a certificate of yours (--cert, --key)" in without.error) == (5, True)


async def test_credentials_go_elsewhere_in_plaintext_only_when_told_to(tmp_path: Path) -> None:
    elsewhere = ("--address", "nowhere.invalid:1", "--token", "x", "--timeout", "0.2")
    refused = await tasker("task", "list", *elsewhere, cwd=tmp_path)
    assert (refused.code, "would go to nowhere.invalid:1 in plaintext" in refused.error) == (2, True)
    told = await tasker("task", "list", *elsewhere, "--allow-plaintext", cwd=tmp_path)
    assert told.code == 5
    assert "credentials go to nowhere.invalid:1 in plaintext" in told.err


async def test_a_proxy_is_not_asked_for_a_service_on_this_machine(plain: str, tmp_path: Path) -> None:
    for variable in ("http_proxy", "https_proxy", "grpc_proxy"):
        ended = await tasker(
            *GET, "--address", plain, "--api-key", KEY, cwd=tmp_path, **{variable: "http://127.0.0.1:9"}
        )
        assert is_answered(ended), variable


# Making credentials


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_what_the_command_makes_is_accepted_by_both_services(
    algorithm: str, database_url: str, project: Path
) -> None:
    made = await tasker("auth", "generate-keys", "--algorithm", algorithm, cwd=project)
    assert made.out == "private key  keys/jwt-private.pem\npublic key   keys/jwt-public.pem\n"
    assert stat.S_IMODE((project / "keys" / "jwt-private.pem").stat().st_mode) == 0o600
    granted = ("--permission", "templates:read", "--permission", "worker:*")
    given = (await tasker("auth", "token", *granted, cwd=project)).out.strip()
    settings: dict[str, object] = {
        "auth_enabled": True,
        "jwt_public_key_path": project / "keys" / "jwt-public.pem",
    }
    async with (
        services.orchestration(database_url, **settings) as orchestration,
        services.worker(database_url, HandlerRegistry(), project / "config" / "tasks", **settings) as worker,
        TaskerClient(orchestration.address, token=given) as client,
        aio.insecure_channel(worker.address) as channel,
    ):
        await client.templates()
        await worker_pb2_grpc.WorkerConfigServiceStub(channel).GetConfig(
            worker_pb2.WorkerGetConfigRequest(), metadata=[("authorization", f"Bearer {given}")], timeout=20
        )
    shown = await tasker("auth", "validate", given, "--json", cwd=project)
    assert shown.objects[0]["subject"] == "tasker-client"
    assert shown.objects[0]["permissions"] == ["templates:read", "worker:*"]


async def test_keys_are_not_replaced_by_mistake(tmp_path: Path) -> None:
    await tasker("auth", "generate-keys", cwd=tmp_path)
    before = (tmp_path / "keys" / "jwt-private.pem").read_bytes()
    again = await tasker("auth", "generate-keys", cwd=tmp_path)
    assert (again.code, "keys/jwt-private.pem is there already" in again.error) == (2, True)
    assert (tmp_path / "keys" / "jwt-private.pem").read_bytes() == before
    assert (await tasker("auth", "generate-keys", "--force", cwd=tmp_path)).code == 0
    assert (tmp_path / "keys" / "jwt-private.pem").read_bytes() != before


async def test_validate_says_what_is_wrong_with_a_token(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(public_pem(rsa_key()))
    key = ("--public-key", "key.pem")
    for given, problem in (
        (token("tasks:read", exp=1), "(expired): it has expired"),
        (token("tasks:read", key=rsa_key("other")), "(invalid): none of the keys has signed it"),
        (token("tasks:read", aud="others"), "(invalid): Audience doesn't match"),
        (token("tasks:fly"), "(unknown_permission): grants what is no permission: 'tasks:fly'"),
        ("nonsense", "(malformed): it is no token"),
    ):
        ended = await tasker("auth", "validate", given, *key, cwd=tmp_path)
        assert (ended.code, problem in ended.error) == (3, True), ended.error
    (tmp_path / "token").write_text(token("tasks:read", sub="ada"))
    good = await tasker("auth", "validate", "@token", *key, cwd=tmp_path)
    assert good.out.splitlines()[:2] == ["subject      ada", "permissions  tasks:read"]


async def test_a_token_is_made_of_permissions_that_there_are(tmp_path: Path) -> None:
    await tasker("auth", "generate-keys", cwd=tmp_path)
    for permission in ("*", "tasks:fly"):
        ended = await tasker("auth", "token", "--permission", permission, cwd=tmp_path)
        assert (ended.code, f"{permission} is no permission" in ended.error) == (2, True)
    ended = await tasker(
        "auth", "token", "--permission", "tasks:read", "--private-key", "none.pem", cwd=tmp_path
    )
    assert (ended.code, ended.error) == (2, "error: none.pem: cannot be read: No such file or directory")


async def test_a_key_is_made_and_hashed(tmp_path: Path) -> None:
    made = (await tasker("auth", "hash-key", "--json", cwd=tmp_path)).objects[0]
    again = (await tasker("auth", "hash-key", made["key"], cwd=tmp_path)).out.strip()
    assert made["hash"] == again
    (tmp_path / "keys.json").write_text(
        json.dumps([{"key": again, "permissions": ["tasks:read"], "description": "made"}])
    )
    async with guarded(api_keys=None, api_keys_file=tmp_path / "keys.json") as address:
        assert is_answered(await tasker(*GET, "--address", address, "--api-key", made["key"], cwd=tmp_path))


async def test_permissions_are_listed_with_their_calls(tmp_path: Path) -> None:
    rows = {
        row["permission"]: row["calls"]
        for row in (await tasker("auth", "permissions", "--json", cwd=tmp_path)).objects
    }
    assert "TaskService.GetTask" in rows["tasks:read"]
    assert rows["system:handlers_read"] == []
    assert "tasks:context_read" in (await tasker("auth", "permissions", cwd=tmp_path)).out


# Starting


@pytest.mark.parametrize("command", ["orchestration", "worker"])
async def test_a_service_does_not_start_without_what_it_needs(
    command: str, certificate: Certificate, project: Path
) -> None:
    database = {"DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    for settings, problem in (
        ({"TASKER_AUTH_ENABLED": "true"}, "TASKER_AUTH_ENABLED is true, and nothing tells whom to let in"),
        ({"TASKER_TLS_ENABLED": "true"}, "TLS needs both TASKER_TLS_CERT_PATH and TASKER_TLS_KEY_PATH"),
        (
            {"TASKER_TLS_CERT_PATH": "none.pem", "TASKER_TLS_KEY_PATH": str(certificate.key)},
            "none.pem: cannot be read: No such file or directory",
        ),
        (
            {"TASKER_AUTH_ENABLED": "true", "TASKER_API_KEYS_FILE": "none.yaml"},
            "none.yaml: cannot be read: No such file or directory",
        ),
        (
            {"TASKER_AUTH_ENABLED": "true", "TASKER_JWKS_URL": "http://idp.example.com/keys"},
            "the URL of the key set must be https",
        ),
    ):
        ended = await tasker(command, cwd=project, **database, **settings)
        assert (ended.code, problem in ended.error) == (2, True), ended.error
