"""Who is let in: over a real channel, before the servicer or anybody else reads the request."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tasker.config.settings import WorkerSettings
from tasker.domain.errors import UnauthenticatedError
from tasker.rpc.credentials.api_keys import hash_key
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.key_files import Reloaded, read_key_file
from tasker.rpc.permissions import PERMISSION_OF, VOCABULARY, Caller, Permission, caller
from tasker.rpc.security import security_of
from tasker.rpc.server import ServiceRegistration, build_server
from tasker.v1 import tasks_pb2, tasks_pb2_grpc
from tests.support.credentials import ec_key, public_pem, rsa_key, token

KEY = "a key that nobody guesses"


@dataclass
class Servicer(tasks_pb2_grpc.TaskServiceServicer):
    """Remembers who called it."""

    callers: list[Caller] = field(default_factory=list)

    async def GetTask(
        self, request: tasks_pb2.GetTaskRequest, context: ServicerContext
    ) -> tasks_pb2.GetTaskResponse:
        self.callers.append(caller())
        return tasks_pb2.GetTaskResponse()

    async def StreamTaskStatus(
        self, request: tasks_pb2.StreamTaskStatusRequest, context: ServicerContext
    ) -> AsyncIterator[tasks_pb2.TaskStatusUpdate]:
        self.callers.append(caller())
        yield tasks_pb2.TaskStatusUpdate()


@dataclass
class Refusal:
    code: StatusCode
    message: str
    reason: str
    facts: dict[str, str]


class Client:
    """Calls with whatever metadata."""

    def __init__(self, channel: aio.Channel, servicer: Servicer) -> None:
        self.channel = channel
        self.servicer = servicer
        self._stub = tasks_pb2_grpc.TaskServiceStub(channel)

    async def get(self, *metadata: tuple[str, str]) -> Caller:
        """Return who the servicer took the caller for."""
        await self._stub.GetTask(tasks_pb2.GetTaskRequest(), metadata=metadata, timeout=20)
        return self.servicer.callers.pop()

    async def with_token(self, given: str) -> Caller:
        return await self.get(("authorization", f"Bearer {given}"))

    async def refused(
        self, *metadata: tuple[str, str], method: str = "GetTask", data: bytes = b""
    ) -> Refusal:
        """Return how a call of any bytes ended that came to no servicer."""
        path = method if method.startswith("/") else f"/tasker.v1.TaskService/{method}"
        call = self.channel.unary_unary(path, lambda data: data, lambda data: data)
        with pytest.raises(aio.AioRpcError) as caught:
            await call(data, metadata=metadata, timeout=20)
        assert not self.servicer.callers
        trailers: Any = caught.value.trailing_metadata()
        status = status_pb2.Status.FromString(dict(trailers)["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        return Refusal(caught.value.code(), caught.value.details() or "", info.reason, dict(info.metadata))


@asynccontextmanager
async def client_of(**given: Any) -> AsyncIterator[Client]:
    """Serve with these settings, and yield a client."""
    servicer = Servicer()
    service = ServiceRegistration(
        tasks_pb2.DESCRIPTOR.services_by_name["TaskService"],
        servicer,
        tasks_pb2_grpc.add_TaskServiceServicer_to_server,
    )
    security = security_of(WorkerSettings.load(database_url="postgresql://nowhere/none", **given))
    async with (
        build_server("127.0.0.1:0", services=[service], security=security) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        yield Client(channel, servicer)


def by_tokens(**given: Any) -> dict[str, Any]:
    pem = public_pem(rsa_key()) + public_pem(ec_key())
    return {"auth_enabled": True, "jwt_public_key": pem.decode(), **given}


def by_api_keys(*permissions: str, **given: Any) -> dict[str, Any]:
    entry = {"key": hash_key(KEY), "permissions": permissions, "description": "billing"}
    return {"auth_enabled": True, "api_keys": json.dumps([entry]), **given}


# Off


async def test_without_authentication_everybody_may_do_everything() -> None:
    async with client_of() as client:
        who = await client.get()
        assert (who.subject, who.method) == ("anonymous", "disabled")
        assert all(who.may(permission) for permission in Permission)
        assert (await client.with_token("nonsense")).method == "disabled"


# Tokens


@pytest.mark.parametrize(
    ("key", "algorithm"), [(rsa_key, "RS256"), (ec_key, "ES256")], ids=["RS256", "ES256"]
)
async def test_a_good_token_is_let_in(key: Callable[[], Any], algorithm: str) -> None:
    async with client_of(**by_tokens()) as client:
        good = token("tasks:read", "tasks:context_read", key=key(), algorithm=algorithm)
        for prefix in ("Bearer ", "bearer "):
            who = await client.get(("authorization", prefix + good))
            assert who == Caller("ada", "jwt", frozenset({"tasks:read", "tasks:context_read"}))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["others", "tasker-api"]},
        {"nbf": 30},
        {"exp": -30},
        {"permissions": "openid-is-none tasks:read"},
        {"iss": "https://login.example.com"},
        {"permissions": None, "scp": ["tasks:read"]},
    ],
    ids=["many audiences", "within the leeway", "just expired", "one text", "other issuer", "other claim"],
)
async def test_what_a_token_may_look_like(claims: dict[str, Any]) -> None:
    given = by_tokens(strict_permissions=False)
    now = int(time.time())
    claims = claims | {name: now + claims[name] for name in ("nbf", "exp") if name in claims}
    if "iss" in claims:
        given["jwt_issuer"] = claims["iss"]
    if "scp" in claims:
        given["jwt_permissions_claim"] = "scp"
    async with client_of(**given) as client:
        who = await client.with_token(token("tasks:read", **claims))
        assert who.permissions == {"tasks:read"}


def encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


def unsigned() -> str:
    return jwt.encode(claims_now(), "", algorithm="none")


def signed_with_the_public_key() -> str:
    """The oldest trick: HMAC with a secret that everybody knows. PyJWT refuses to, so by hand."""
    head = encoded(b'{"alg":"HS256","typ":"JWT"}')
    body = encoded(json.dumps(claims_now()).encode())
    signature = hmac.digest(public_pem(rsa_key()), f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{encoded(signature)}"


def claims_now() -> dict[str, Any]:
    now = int(time.time())
    return {
        "sub": "ada",
        "iss": "tasker-core",
        "aud": "tasker-api",
        "iat": now,
        "exp": now + 600,
        "permissions": ["tasks:read"],
    }


BAD_TOKENS: dict[str, tuple[Callable[[], str], str]] = {
    "expired": (lambda: token("tasks:read", exp=int(time.time()) - 120), "expired"),
    "not yet": (lambda: token("tasks:read", nbf=int(time.time()) + 120), "invalid"),
    "from tomorrow": (lambda: token("tasks:read", iat=int(time.time()) + 86_400), "invalid"),
    "wrong issuer": (lambda: token("tasks:read", iss="others"), "invalid"),
    "wrong audience": (lambda: token("tasks:read", aud="others"), "invalid"),
    "no subject": (lambda: token("tasks:read", sub=None), "invalid"),
    "no issuer": (lambda: token("tasks:read", iss=None), "invalid"),
    "no audience": (lambda: token("tasks:read", aud=None), "invalid"),
    "no time of issue": (lambda: token("tasks:read", iat=None), "invalid"),
    "no expiry": (lambda: token("tasks:read", exp=None), "invalid"),
    "expires beyond all time": (lambda: token("tasks:read", exp=10**400), "invalid"),
    "expires at no time": (lambda: token("tasks:read", exp=[1]), "invalid"),
    "wrong key": (lambda: token("tasks:read", key=rsa_key("other")), "invalid"),
    "algorithm not allowed": (lambda: token("tasks:read", algorithm="RS384"), "invalid"),
    "HS256": (lambda: token("tasks:read", key="x" * 64, algorithm="HS256"), "invalid"),
    "HS256 with the public key": (signed_with_the_public_key, "invalid"),
    "none": (unsigned, "invalid"),
    "changed": (lambda: _changed(token("tasks:read")), "invalid"),
    "cut": (lambda: token("tasks:read").rpartition(".")[0] + ".", "invalid"),
    "permissions that are no list": (lambda: token(permissions={"tasks:read": True}), "invalid"),
    "permissions that are no texts": (lambda: token(permissions=["tasks:read", 7]), "invalid"),
    "unknown permission": (lambda: token("tasks:read", "tasks:fly"), "unknown_permission"),
    "everything": (lambda: token("*"), "unknown_permission"),
    "no token": (lambda: "no token", "malformed"),
    "empty": (lambda: "", "malformed"),
    "deep header": (lambda: _with_header("[" * 3000), "malformed"),
    "header with a number of a thousand digits": (lambda: _with_header('{"alg":' + "9" * 5000), "malformed"),
}


def _changed(good: str) -> str:
    head, body, signature = good.split(".")
    claims = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4))) | {"permissions": ["tasks:*"]}
    return f"{head}.{encoded(json.dumps(claims).encode())}.{signature}"


def _with_header(text: str) -> str:
    return f"{encoded(text.encode())}.e30.e30"


async def test_every_bad_credential_gets_the_same_answer() -> None:
    answers = []
    async with client_of(**by_tokens(**by_api_keys("tasks:read"))) as client:
        for name, (make, cause) in BAD_TOKENS.items():
            with capture_logs() as logs:
                answers.append(await client.refused(("authorization", f"Bearer {make()}")))
            causes = [log["cause"] for log in logs if log["event"] == "credentials_refused"]
            assert causes in ([cause], []), name  # the log is told of each cause now and then
        for metadata in (
            (),
            (("x-api-key", "another key"),),
            (("x-api-key", ""),),
            (("x-api-key", hash_key(KEY)),),  # what is stored opens nothing
            (("authorization", f"Basic {token('tasks:read')}"),),
            (("authorization", f"BEARER {token('tasks:read')}"),),
            (("authorization", token("tasks:read")),),
        ):
            answers.append(await client.refused(*metadata))
        assert (await client.with_token(token("tasks:read"))).subject == "ada"
    assert len(answers) == len(BAD_TOKENS) + 7
    assert all(answer == answers[0] for answer in answers)
    assert (answers[0].code, answers[0].reason) == (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert answers[0].message == (
        "Invalid or expired credentials, or none: send 'authorization: Bearer TOKEN' or 'x-api-key: KEY' with the call"
    )


@pytest.mark.parametrize("cause", sorted({cause for _, cause in BAD_TOKENS.values()} | {"missing"}))
async def test_the_log_says_why_and_not_what_was_sent(cause: str) -> None:
    made = next((make() for make, one in BAD_TOKENS.values() if one == cause), None)
    metadata = () if made is None else (("authorization", f"Bearer {made}"),)
    async with client_of(**by_tokens()) as client:
        with capture_logs() as logs:
            for _ in range(50):
                await client.refused(*metadata)
    (told,) = [log for log in logs if log["event"] == "credentials_refused"]
    assert (told["cause"], told["method"]) == (cause, "/tasker.v1.TaskService/GetTask")
    assert told["peer"].startswith("ipv4:127.0.0.1:")
    for part in (made or "").split("."):
        assert len(part) < 10 or part not in json.dumps(logs)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_text_is_a_token_by_chance(text: str) -> None:
    security = security_of(WorkerSettings.load(database_url="postgresql://nowhere/none", **by_tokens()))
    assert security.authenticator is not None
    with pytest.raises(UnauthenticatedError):
        asyncio.run(security.authenticator.identify([("authorization", f"Bearer {text}")]))


# API keys


async def test_an_api_key_is_let_in() -> None:
    async with client_of(**by_api_keys("tasks:read")) as client:
        who = await client.get(("x-api-key", KEY))
        assert who == Caller("billing", "api_key", frozenset({"tasks:read"}))


async def test_the_header_of_api_keys_can_be_named() -> None:
    async with client_of(**by_api_keys("tasks:read", api_key_header="X-Tasker-Key")) as client:
        assert (await client.get(("x-tasker-key", KEY))).subject == "billing"
        refusal = await client.refused(("x-api-key", KEY))
        assert "'x-tasker-key: KEY'" in refusal.message


async def test_a_bad_token_is_not_made_good_by_a_key() -> None:
    async with client_of(**by_tokens(**by_api_keys("tasks:read"))) as client:
        refusal = await client.refused(("authorization", "Bearer bad"), ("x-api-key", KEY))
        assert refusal.code is StatusCode.UNAUTHENTICATED
        both = ("authorization", f"Bearer {token('tasks:read')}"), ("x-api-key", KEY)
        assert (await client.get(*both)).subject == "ada"
        for other in ("Basic dXNlcjpwYXNz", "BEARER bad"):  # counts as absent
            assert (await client.get(("authorization", other), ("x-api-key", KEY))).subject == "billing"


async def test_what_no_verifier_was_set_for_is_refused() -> None:
    async with client_of(**by_api_keys("tasks:read")) as client:
        assert (await client.refused(("authorization", f"Bearer {token('tasks:read')}"))).code is (
            StatusCode.UNAUTHENTICATED
        )
    async with client_of(**by_tokens()) as client:
        assert (await client.refused(("x-api-key", KEY))).code is StatusCode.UNAUTHENTICATED


# Permissions


ROWS = [
    (f"/{service}/{method}", permission)
    for service, rows in PERMISSION_OF.items()
    for method, permission in rows.items()
]


async def test_every_rpc_asks_for_its_permission() -> None:
    """A neighbour, an unknown caller and a bare `*` end before the servicer; the right one gets further."""
    async with client_of(**by_tokens(strict_permissions=False)) as client:

        async def outcome(method: str, *granted: str) -> StatusCode:
            refusal = await client.refused(
                ("authorization", f"Bearer {token(*granted, key=ec_key(), algorithm='ES256')}"),
                method=method,
                data=b"\xff",  # no message of any type: whoever gets past is told so
            )
            return refusal.code

        own = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"].methods_by_name
        for method, permission in ROWS:
            others = VOCABULARY - {permission, permission.wildcard}
            assert await outcome(method, *others) is StatusCode.PERMISSION_DENIED, method
            assert await outcome(method, "*") is StatusCode.PERMISSION_DENIED, method
            assert (await client.refused(method=method)).code is StatusCode.UNAUTHENTICATED, method
            if method.startswith("/tasker.v1.TaskService/"):
                assert method.rpartition("/")[2] in own
                for granted in (permission, permission.wildcard):
                    assert await outcome(method, granted) is StatusCode.INVALID_ARGUMENT, method


async def test_a_missing_permission_is_named() -> None:
    async with client_of(**by_tokens()) as client:
        for granted in ((), ("tasks:list", "steps:*")):
            with capture_logs() as logs:
                refusal = await client.refused(("authorization", f"Bearer {token(*granted)}"))
            (told,) = [log for log in logs if log["event"] == "call_denied"]
            assert (told["subject"], told["permission"]) == ("ada", "tasks:read")
            assert told["peer"].startswith("ipv4:127.0.0.1:")
            assert (refusal.code, refusal.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
            assert refusal.facts == {"permission": "tasks:read"}
            assert "'ada' lacks the permission 'tasks:read'" in refusal.message


async def test_what_is_in_no_row_is_denied_whatever_is_granted() -> None:
    everything = token(*VOCABULARY)
    async with client_of(**by_tokens()) as client:
        for method in ("/tasker.v1.TaskService/Drop", "/other.Service/GetTask"):
            refusal = await client.refused(("authorization", f"Bearer {everything}"), method=method)
            assert refusal.code is StatusCode.PERMISSION_DENIED
            assert refusal.message.startswith(f"there is no method '{method}', or nobody may call it")
            assert (await client.refused(method=method)).code is StatusCode.UNAUTHENTICATED


async def test_a_request_is_not_read_before_its_caller_is_known() -> None:
    async with client_of(**by_tokens()) as client:
        garbage = b"\xff" * 40
        good = ("authorization", f"Bearer {token('tasks:read')}")
        assert (await client.refused(data=garbage)).code is StatusCode.UNAUTHENTICATED
        assert (await client.refused(good, data=garbage)).code is StatusCode.INVALID_ARGUMENT


async def test_streams_are_guarded_and_know_their_caller() -> None:
    async with client_of(**by_tokens()) as client:
        stub = tasks_pb2_grpc.TaskServiceStub(client.channel)
        request = tasks_pb2.StreamTaskStatusRequest()
        for granted, code in (((), StatusCode.PERMISSION_DENIED), (None, StatusCode.UNAUTHENTICATED)):
            metadata = None if granted is None else [("authorization", f"Bearer {token(*granted)}")]
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.StreamTaskStatus(request, metadata=metadata, timeout=20).read()
            assert caught.value.code() is code
        metadata = [("authorization", f"Bearer {token('tasks:*', sub='grace')}")]
        updates = [one async for one in stub.StreamTaskStatus(request, metadata=metadata, timeout=20)]
        assert len(updates) == 1
        assert client.servicer.callers.pop().subject == "grace"
        assert caller().method == "disabled"  # what the server learns stays in the call


async def test_unknown_permissions_are_left_out_and_told_once_unless_we_are_strict() -> None:
    given = token("tasks:read", "tasks:fly", "*")
    async with client_of(**by_tokens(strict_permissions=False)) as client:
        with capture_logs() as logs:
            for _ in range(3):
                assert (await client.with_token(given)).permissions == {"tasks:read"}
        (told,) = [log for log in logs if log["event"] == "unknown_permissions_ignored"]
        assert told["permissions"] == "'*', 'tasks:fly'"
    async with client_of(**by_tokens(strict_permissions=True)) as client:
        assert (await client.refused(("authorization", f"Bearer {given}"))).code is StatusCode.UNAUTHENTICATED


# Rotation


async def test_keys_rotate_by_changing_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.pem"
    first, second = rsa_key("first"), rsa_key("second")
    path.write_bytes(public_pem(first))
    async with client_of(auth_enabled=True, jwt_public_key_path=path) as client:
        old, new = (token("tasks:read", key=key) for key in (first, second))
        assert (await client.with_token(old)).subject == "ada"
        assert (await client.refused(("authorization", f"Bearer {new}"))).code is StatusCode.UNAUTHENTICATED
        path.write_bytes(public_pem(first) + public_pem(second))
        assert (await client.with_token(new)).subject == "ada"
        assert (await client.with_token(old)).subject == "ada"
        path.write_bytes(public_pem(second))
        assert (await client.refused(("authorization", f"Bearer {old}"))).code is StatusCode.UNAUTHENTICATED
        path.write_bytes(b"half a ke")
        assert (await client.with_token(new)).subject == "ada"


async def test_api_keys_rotate_by_changing_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"

    def write(*keys: str) -> None:
        entries = [
            f"- {{key: '{hash_key(key)}', permissions: ['tasks:read'], description: {key}}}" for key in keys
        ]
        path.write_text("\n".join(entries))

    write("old")
    async with client_of(auth_enabled=True, api_keys_file=path) as client:
        assert (await client.get(("x-api-key", "old"))).subject == "old"
        write("old", "new")
        assert (await client.get(("x-api-key", "new"))).subject == "new"
        assert (await client.get(("x-api-key", "old"))).subject == "old"
        write("new")
        assert (await client.refused(("x-api-key", "old"))).code is StatusCode.UNAUTHENTICATED
        path.unlink()
        with capture_logs() as logs:
            assert (await client.get(("x-api-key", "new"))).subject == "new"
        assert [log["event"] for log in logs] == ["key_files_not_reloaded"]
        path.write_text("[]")
        assert (await client.refused(("x-api-key", "new"))).code is StatusCode.UNAUTHENTICATED
        write("newer")
        assert (await client.get(("x-api-key", "newer"))).subject == "newer"
        path.write_text("")  # half written, as like as not
        assert (await client.get(("x-api-key", "newer"))).subject == "newer"


def test_the_log_repeats_that_a_file_cannot_be_used_until_it_can(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"good")
    now = 0.0
    reloaded = Reloaded([path], lambda: read_key_file(path), clock=lambda: now)
    path.unlink()
    with capture_logs() as logs:
        for now in (0.0, 30.0, 61.0, 62.0, 122.0):  # noqa: B007 - the clock
            assert reloaded.current() == b"good"
        assert [log["event"] for log in logs] == ["key_files_not_reloaded"] * 3
        path.write_bytes(b"better")
        now = 500.0
        assert [reloaded.current(), reloaded.current()] == [b"better"] * 2
        assert [log["event"] for log in logs[3:]] == ["key_files_reloaded"]
