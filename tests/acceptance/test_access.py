"""Who gets in, and what they get to see: both services as they run, with credentials, key sets and certificates."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from structlog.testing import capture_logs

from tasker.client import TaskerClient, TaskState, UnauthenticatedError
from tasker.orchestration.service import OrchestrationService
from tasker.rpc.credentials.api_keys import hash_key
from tasker.rpc.permissions import VOCABULARY, Permission, is_public, permission_of
from tasker.worker import PermanentError, StepContext
from tasker.worker.service import WorkerService
from tests.support import services, waiting
from tests.support.clients import Refusal
from tests.support.credentials import Authority, ec_key, jwk, public_pem, rsa_key, token
from tests.support.engine import chain
from tests.support.key_set_server import key_set_server
from tests.support.workshop import Workshop

API_KEY = "an-api-key-of-the-tests"
CONTEXT_CANARY = "canary-in-the-context"
TRACE_CANARY = "canary_in_the_traceback"
HOST_CANARY = "canary-of-a-host"

EVERYTHING = tuple(sorted({permission.wildcard for permission in Permission}))
ALL_BUT_CONTEXTS = tuple(sorted(set(Permission) - {Permission.TASKS_CONTEXT_READ}))


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    """Authentication by tokens and one API key."""
    entry = {"key": hash_key(API_KEY), "permissions": EVERYTHING, "description": "tests"}
    return {
        "auth_enabled": True,
        "jwt_public_key": public_pem(rsa_key()).decode(),
        "api_keys": json.dumps([entry]),
    }


@asynccontextmanager
async def both(
    database_url: str, folder: Path, workshop: Workshop, **settings: object
) -> AsyncIterator[tuple[OrchestrationService, WorkerService]]:
    """Run both services with a chain of two steps."""
    folder = services.write_templates(folder, chain(2) | {"identity_strategy": "strict"})
    async with AsyncExitStack() as stack:
        orchestration = await stack.enter_async_context(services.orchestration(database_url, **settings))
        worker = await stack.enter_async_context(
            services.worker(database_url, workshop.registry, folder, **settings)
        )
        yield orchestration, worker


class Asker:
    """Calls any method with bytes, as one caller."""

    def __init__(self, channel: aio.Channel, *metadata: tuple[str, str]) -> None:
        self._channel = channel
        self._metadata = metadata

    @classmethod
    def granted(cls, channel: aio.Channel, *permissions: str) -> Asker:
        return cls(channel, ("authorization", f"Bearer {token(*permissions)}"))

    async def ask(self, method: MethodDescriptor, request: Message) -> tuple[StatusCode, bytes]:
        """Return how a call ends, and all that came back, status and trailers among it."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        came: list[bytes] = []
        try:
            if method.server_streaming:
                stream = self._channel.unary_stream(path, _as_is, _as_is)(
                    request.SerializeToString(), metadata=self._metadata, timeout=2
                )
                async for message in stream:
                    came.append(message)
            else:
                call = self._channel.unary_unary(path, _as_is, _as_is)
                came.append(
                    await call(
                        request.SerializeToString(), metadata=self._metadata, timeout=waiting.PATIENCE_SECONDS
                    )
                )
        except aio.AioRpcError as error:
            refusal = Refusal.of(error)
            return error.code(), b"".join(came) + repr(refusal).encode()
        return StatusCode.OK, b"".join(came)


def _as_is(data: bytes) -> bytes:
    return data


async def served(address: str) -> list[ServiceDescriptor]:
    """Return the services that a server lists by reflection, which asks nobody who they are."""

    async def question() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async with aio.insecure_channel(address) as channel:
        ask = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        async for answer in ask(question(), timeout=waiting.PATIENCE_SECONDS):
            names = [service.name for service in answer.list_services_response.service]
            return [Default().FindServiceByName(name) for name in names if name.startswith("tasker.")]
    raise AssertionError("no answer")


# Everything that is served is guarded


async def test_every_rpc_that_reflection_lists_asks_for_its_permission(
    database_url: str, tmp_path: Path, workshop: Workshop, settings: dict[str, object]
) -> None:
    async with both(database_url, tmp_path / "templates", workshop, **settings) as (orchestration, worker):
        seen = 0
        for address in (orchestration.address, worker.address):
            async with aio.insecure_channel(address) as channel:
                for method in [method for service in await served(address) for method in service.methods]:
                    path = f"/{method.containing_service.full_name}/{method.name}"
                    needed = permission_of(path)
                    seen += 1
                    empty = GetMessageClass(method.input_type)()
                    code, _ = await Asker(channel).ask(method, empty)
                    if needed is None:
                        assert is_public(path), path
                        assert code is StatusCode.OK, path
                        continue
                    assert code is StatusCode.UNAUTHENTICATED, path
                    others = VOCABULARY - {needed, needed.wildcard}
                    code, _ = await Asker.granted(channel, *others).ask(method, empty)
                    assert code is StatusCode.PERMISSION_DENIED, path
                    for granted in (needed, needed.wildcard):
                        code, _ = await Asker.granted(channel, granted).ask(method, empty)
                        assert code not in (StatusCode.PERMISSION_DENIED, StatusCode.UNAUTHENTICATED), path
        assert seen >= 33


async def test_health_is_told_to_everybody(
    database_url: str, tmp_path: Path, workshop: Workshop, settings: dict[str, object]
) -> None:
    async with both(database_url, tmp_path / "templates", workshop, **settings) as (orchestration, worker):
        for address in (orchestration.address, worker.address):
            async with aio.insecure_channel(address) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=waiting.PATIENCE_SECONDS)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        async with TaskerClient(orchestration.address) as client:
            assert (await client.health("basic")).status == "healthy"
            assert (await client.health("ready")).status == "ready"
            assert (await client.health("detailed")).checks
            with pytest.raises(UnauthenticatedError):
                await client.templates()


async def test_reflection_can_be_switched_off(
    database_url: str, tmp_path: Path, workshop: Workshop, settings: dict[str, object]
) -> None:
    settings["reflection_enabled"] = False
    async with both(database_url, tmp_path / "templates", workshop, **settings) as (orchestration, worker):
        for address in (orchestration.address, worker.address):
            with pytest.raises(aio.AioRpcError) as caught:
                await served(address)
            assert caught.value.code() is StatusCode.UNIMPLEMENTED


async def test_what_is_shown_of_the_settings_says_how_callers_prove_who_they_are(
    database_url: str, tmp_path: Path, workshop: Workshop, settings: dict[str, object]
) -> None:
    async with both(database_url, tmp_path / "templates", workshop, **settings) as (orchestration, _):
        async with TaskerClient(orchestration.address, api_key=API_KEY) as client:
            shown = (await client.config.get()).auth
        assert (shown.enabled, shown.verification_method, shown.api_keys) == (True, "public_key", 1)
        assert (shown.issuer, shown.audience, shown.api_key_header) == (
            "tasker-core",
            "tasker-api",
            "x-api-key",
        )
        assert (shown.strict, shown.algorithms) == (True, ("RS256", "ES256"))


# Contexts and tracebacks


def _fails(context: StepContext) -> object:
    def canary_in_the_traceback() -> None:
        raise PermanentError("the card is declined")

    canary_in_the_traceback()
    return {}


class Facts:
    """Fills the fields of any request with what the test knows of its task, so that new rpcs are asked, too."""

    def __init__(self, **texts: str) -> None:
        self._texts = texts
        self._made = 0

    def request(self, method: MethodDescriptor) -> Message:
        return self._filled(GetMessageClass(method.input_type)())

    def _filled(self, message: Message) -> Message:
        for field in message.DESCRIPTOR.fields:
            if field.name in ("tasks", "steps") and field.is_repeated:
                part = getattr(message, field.name).add()
                self._filled(part)
            elif field.name == "idempotency_key":
                self._made += 1
                message.idempotency_key = f"made {self._made}"  # type: ignore[attr-defined]
            elif field.name == "context_json":
                message.context_json = json.dumps({"card": CONTEXT_CANARY})  # type: ignore[attr-defined]
            elif (text := self._texts.get(field.name.removesuffix("s"))) is not None and field.is_repeated:
                getattr(message, field.name).append(text)
            elif (text := self._texts.get(field.name)) is not None and not field.is_repeated:
                setattr(message, field.name, text)
            elif field.type == FieldDescriptor.TYPE_BOOL and field.name.startswith("include_"):
                setattr(message, field.name, True)
        return message


#: What changes the task comes last.
_READING = ("Get", "List", "Stream", "Watch", "Create", "Validate")


@pytest.fixture
async def blocked(
    database_url: str,
    tmp_path: Path,
    workshop: Workshop,
    settings: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[OrchestrationService, Facts]]:
    """A task that a failure blocks, with something in its context that not everybody is to see."""
    monkeypatch.setattr(socket, "gethostname", lambda: HOST_CANARY)
    workshop.behaviours["s1"] = _fails
    async with (
        both(database_url, tmp_path / "templates", workshop, **settings) as (orchestration, _),
        TaskerClient(orchestration.address, api_key=API_KEY) as client,
    ):
        task = await client.create("test", "workflow", {"card": CONTEXT_CANARY})
        task = await client.wait(task.task_uuid, timeout=waiting.PATIENCE_SECONDS)
        assert task.state is TaskState.BLOCKED_BY_FAILURES

        async def in_dlq() -> object:
            return [entry async for entry in client.dlq.list()]

        (entry,) = await waiting.until(in_dlq)
        yield (
            orchestration,
            Facts(
                task_uuid=str(task.task_uuid),
                step_uuid=str(task.step("s1").step_uuid),
                dlq_entry_uuid=str(entry.dlq_entry_uuid),
                namespace="test",
                name="workflow",
                version="1.0.0",
                resume_cursor="",
            ),
        )


async def holding(
    canary: str, orchestration: OrchestrationService, facts: Facts, *permissions: str
) -> dict[str, bool]:
    """Ask everything as one caller; return for each method that answered whether a reply held the canary."""
    found: dict[str, bool] = {}
    methods = [method for service in await served(orchestration.address) for method in service.methods]
    async with aio.insecure_channel(orchestration.address) as channel:
        asker = Asker.granted(channel, *permissions)
        for method in sorted(methods, key=lambda method: not method.name.startswith(_READING)):
            code, came = await asker.ask(method, facts.request(method))
            assert code is not StatusCode.INTERNAL, method.full_name
            if code is not StatusCode.PERMISSION_DENIED:
                found[method.name] = canary.encode() in came
    return found


async def test_no_reply_holds_a_context_without_the_permission_for_it(
    blocked: tuple[OrchestrationService, Facts],
) -> None:
    limited = await holding(CONTEXT_CANARY, *blocked, *ALL_BUT_CONTEXTS)
    assert "GetTaskContext" not in limited
    assert {"GetTask", "ListTasks", "CreateTask", "GetTaskSummary", "StreamTaskStatus", "ListEntries"} <= set(
        limited
    )
    assert [method for method, held in limited.items() if held] == []
    full = await holding(CONTEXT_CANARY, *blocked, *EVERYTHING)
    assert {"GetTask", "ListTasks", "CreateTask", "GetTaskContext"} <= {
        method for method, held in full.items() if held
    }


@pytest.mark.parametrize("canary", [TRACE_CANARY, HOST_CANARY])
async def test_no_reply_tells_of_a_workers_files_and_host_without_that_permission(
    canary: str, blocked: tuple[OrchestrationService, Facts]
) -> None:
    limited = await holding(canary, *blocked, *ALL_BUT_CONTEXTS)
    assert [method for method, held in limited.items() if held] == []
    orchestration, facts = blocked
    async with aio.insecure_channel(orchestration.address) as channel:
        asker = Asker.granted(channel, *EVERYTHING)
        for name in ("GetStep", "ListSteps", "GetTask"):
            (method,) = [
                method
                for service in await served(orchestration.address)
                for method in service.methods
                if (service.name, method.name) in {("StepService", name), ("TaskService", name)}
            ]
            _, came = await asker.ask(method, facts.request(method))
            assert canary.encode() in came, name


async def test_contexts_can_be_left_open_to_whoever_may_read_the_task(
    database_url: str, tmp_path: Path, workshop: Workshop, settings: dict[str, object]
) -> None:
    settings["enforce_context_read"] = False
    async with both(database_url, tmp_path / "templates", workshop, **settings) as (orchestration, _):
        granted = token("tasks:create", "tasks:read")
        async with TaskerClient(orchestration.address, token=granted) as client:
            task = await client.create("test", "workflow", {"card": CONTEXT_CANARY})
            assert (await client.get(task.task_uuid)).context == {"card": CONTEXT_CANARY}
            with pytest.raises(Exception, match="lacks the permission 'tasks:context_read'"):
                await client.context(task.task_uuid)


async def test_a_conflict_names_the_earlier_task_to_those_who_may_read_tasks(
    database_url: str, tmp_path: Path, workshop: Workshop, settings: dict[str, object]
) -> None:
    async with (
        both(database_url, tmp_path / "templates", workshop, **settings) as (orchestration, _),
        aio.insecure_channel(orchestration.address) as channel,
    ):
        method = Default().FindMethodByName("tasker.v1.TaskService.CreateTask")
        request = GetMessageClass(method.input_type)(namespace="test", name="workflow")
        writer = Asker.granted(channel, "tasks:create")
        code, _ = await writer.ask(method, request)
        assert code is StatusCode.OK
        code, seen = await writer.ask(method, request)
        assert code is StatusCode.ALREADY_EXISTS
        assert b"task_uuid" not in seen
        code, seen = await Asker.granted(channel, "tasks:create", "tasks:read").ask(method, request)
        assert code is StatusCode.ALREADY_EXISTS
        assert b"task_uuid" in seen


# Key sets


async def test_keys_of_an_identity_provider_rotate_while_the_service_runs(database_url: str) -> None:
    async with key_set_server(jwk(rsa_key("first"), "1")) as provider:
        given: dict[str, object] = {
            "auth_enabled": True,
            "jwks_url": provider.url,
            "jwks_allow_http": True,
            "jwt_issuer": "https://login.example.com",
            "jwt_permissions_claim": "scp",
        }

        def signed(key: Any, key_id: str, algorithm: str = "RS256") -> str:
            claims = {"iss": "https://login.example.com", "scp": ["templates:read"], "permissions": None}
            return token(key=key, key_id=key_id, algorithm=algorithm, **claims)

        async with services.orchestration(database_url, **given) as service:
            assert provider.requests == 1
            for key, key_id, algorithm in ((rsa_key("first"), "1", "RS256"), (ec_key(), "2", "ES256")):
                if key_id not in [entry["kid"] for entry in provider.keys]:
                    provider.keys = [jwk(key, key_id)]
                made = signed(key, key_id, algorithm)
                async with TaskerClient(service.address, token=made) as client:
                    await client.templates()
            assert provider.requests == 2
            provider.status = 503
            async with TaskerClient(service.address, token=signed(ec_key(), "2", "ES256")) as client:
                await client.templates()
            async with TaskerClient(service.address, token=signed(rsa_key("first"), "1")) as client:
                with pytest.raises(UnauthenticatedError):
                    await client.templates()


# TLS


async def test_both_services_shake_hands_over_mutual_tls(
    database_url: str, tmp_path: Path, workshop: Workshop, settings: dict[str, object]
) -> None:
    authority = Authority(tmp_path)
    server, mine = authority.issue("server"), authority.issue("client", hosts=())
    settings |= {
        "tls_cert_path": server.cert,
        "tls_key_path": server.key,
        "tls_client_ca_path": authority.ca,
    }
    access: dict[str, Any] = {"ca": authority.ca, "cert": mine.cert, "key": mine.key}
    async with both(database_url, tmp_path / "templates", workshop, **settings) as (orchestration, worker):
        async with TaskerClient(orchestration.address, api_key=API_KEY, **access) as client:
            task = await client.create("test", "workflow")
            task = await client.wait(task.task_uuid, timeout=waiting.PATIENCE_SECONDS)
            assert task.state is TaskState.COMPLETE
        for address in (orchestration.address, worker.address):
            async with TaskerClient(address, timeout_seconds=1, ca=authority.ca) as client:
                with pytest.raises(Exception, match="failed to connect"):
                    await client.health("basic")


# What is said about it


async def test_no_secret_is_logged_or_shown(
    database_url: str,
    tmp_path: Path,
    workshop: Workshop,
    settings: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    good, bad = token(*EVERYTHING), token(*EVERYTHING, key=rsa_key("other"))
    caplog.set_level(logging.DEBUG)
    answers: list[bytes] = []
    with capture_logs() as logs:
        async with both(database_url, tmp_path / "templates", workshop, **settings) as (
            orchestration,
            worker,
        ):
            for address in (orchestration.address, worker.address):
                async with aio.insecure_channel(address) as channel:
                    for credential in (
                        ("authorization", f"Bearer {good}"),
                        ("authorization", f"Bearer {bad}"),
                        ("x-api-key", API_KEY),
                        ("x-api-key", f"wrong-{API_KEY}"),
                    ):
                        for service in await served(address):
                            for method in service.methods:
                                empty = GetMessageClass(method.input_type)()
                                answers.append((await Asker(channel, credential).ask(method, empty))[1])
    said = "\n".join([repr(logs), caplog.text, *map(repr, answers)])
    assert len(logs) > 2
    for secret in (API_KEY, hash_key(API_KEY), *good.split("."), *bad.split(".")[1:]):
        assert secret not in said
