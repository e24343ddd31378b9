"""What a call sends, which calls are repeated, and what their failures say."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode

from tasker import client as public
from tasker.client import TaskerClient, TaskerClientError, UnavailableError
from tasker.domain import errors
from tasker.domain.errors import FieldViolation
from tasker.v1 import tasks_pb2
from tests.unit.client.scripted import TASK, Act, fails, playing, sends, task_message

CAUSE = UUID("01980000-0000-7000-8000-00000000000a")

CREATED = sends(tasks_pb2.CreateTaskResponse(task=task_message()))
FOUND = sends(tasks_pb2.GetTaskResponse(task=task_message()))
BUSY = fails(errors.UnavailableError("too busy", retry_after_seconds=0))

Call = Callable[[TaskerClient], Awaitable[Any]]


async def create(client: TaskerClient) -> Any:
    return await client.create("shop", "checkout", {})


async def create_with_key(client: TaskerClient) -> Any:
    return await client.create("shop", "checkout", {}, idempotency_key="one")


async def get(client: TaskerClient) -> Any:
    return await client.get(TASK)


# What is sent


async def test_create_sends_all_eleven_fields_and_the_key() -> None:
    async with playing(CREATED) as (client, service):
        await client.create(
            "shop",
            "checkout",
            {"number": 2**63 + 1},
            version="1.2.0",
            idempotency_key="key",
            correlation_id=TASK,
            parent_correlation_id=CAUSE,
            initiator="ada",
            source_system="web",
            reason="because",
            priority=7,
            tags=["a", "b"],
        )
    (request,) = service.requests
    assert request == tasks_pb2.CreateTaskRequest(
        namespace="shop",
        name="checkout",
        version="1.2.0",
        context_json='{"number": 9223372036854775809}',
        idempotency_key="key",
        correlation_id=str(TASK),
        parent_correlation_id=str(CAUSE),
        initiator="ada",
        source_system="web",
        reason="because",
        priority=7,
        tags=["a", "b"],
    )


async def test_what_is_not_given_is_not_sent() -> None:
    async with playing(CREATED) as (client, service):
        await client.create("shop", "checkout")
    assert service.requests == [tasks_pb2.CreateTaskRequest(namespace="shop", name="checkout")]


@pytest.mark.parametrize("text", ["é", "\U0001f600", "\ud800", "\x00"])
async def test_any_text_travels_in_a_context(text: str) -> None:
    """Whether it can be stored is for the service to say, with the path of the value."""
    async with playing(CREATED) as (client, service):
        await client.create("shop", "checkout", {"text": text})
    assert json.loads(service.requests[0].context_json) == {"text": text}


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), (object(), TypeError)])
async def test_what_json_does_not_know_is_refused_at_home(value: object, error: type[Exception]) -> None:
    async with playing(CREATED) as (client, service):
        with pytest.raises(error):
            await client.create("shop", "checkout", {"value": value})
    assert service.requests == []


async def test_a_replay_is_told_apart() -> None:
    replay = sends(tasks_pb2.CreateTaskResponse(task=task_message(), already_existed=True))
    async with playing(CREATED, replay) as (client, _):
        assert not (await create_with_key(client)).already_existed
        assert (await create_with_key(client)).already_existed


# What is repeated


@pytest.mark.parametrize(("call", "answer"), [(get, FOUND), (create_with_key, CREATED)])
async def test_a_call_that_may_be_repeated_is(call: Call, answer: Act) -> None:
    async with playing(BUSY, BUSY, answer) as (client, service):
        assert (await call(client)).task_uuid == TASK
    first, second, third = service.requests
    assert first == second == third


async def test_create_without_a_key_is_never_repeated() -> None:
    async with playing(BUSY, CREATED) as (client, service):
        with pytest.raises(UnavailableError):
            await create(client)
    assert len(service.requests) == 1


async def test_a_refusal_is_never_repeated() -> None:
    async with playing(fails(errors.TaskNotFoundError(TASK)), FOUND) as (client, service):
        with pytest.raises(public.NotFoundError):
            await get(client)
    assert len(service.requests) == 1


async def test_repeating_ends_with_the_timeout() -> None:
    async with playing(BUSY, timeout_seconds=2) as (client, service):
        with pytest.raises(UnavailableError, match="too busy"):
            await get(client)
    assert len(service.requests) >= 1


async def test_a_wait_that_the_service_asks_for_is_not_waited_beyond_the_timeout() -> None:
    later = fails(errors.UnavailableError("too busy", retry_after_seconds=3600))
    async with playing(later, FOUND) as (client, service):
        with pytest.raises(UnavailableError) as caught:
            await get(client)
    assert caught.value.retry_after_seconds == 3600
    assert len(service.requests) == 1


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    async with TaskerClient("127.0.0.1:1", timeout_seconds=0.2) as client:
        with pytest.raises(UnavailableError, match="failed to connect"):
            await get(client)


# What failures say

TEMPLATE = ("shop", "checkout", "9.9.9")

REFUSALS = [
    (errors.InvalidArgumentError.of("name", "required"), public.InvalidArgumentError),
    (errors.UnknownTemplateError(*TEMPLATE, ["1.0.0"]), public.InvalidArgumentError),
    (errors.TaskNotFoundError(TASK), public.NotFoundError),
    (errors.IdentityConflictError(*TEMPLATE), public.AlreadyExistsError),
    (errors.TemplateInUseError(*TEMPLATE, 3), public.FailedPreconditionError),
    (errors.ConcurrentChangeError("moved on"), public.AbortedError),
    (errors.UnauthenticatedError("who?"), public.UnauthenticatedError),
    (errors.PermissionDeniedError("tasks:read"), public.PermissionDeniedError),
    (errors.UnavailableError("busy", retry_after_seconds=2), public.UnavailableError),
]


@pytest.mark.parametrize(("raised", "expected"), REFUSALS)
async def test_a_refusal_keeps_its_facts(
    raised: errors.TaskerError, expected: type[TaskerClientError]
) -> None:
    async with playing(fails(raised)) as (client, _):
        with pytest.raises(TaskerClientError) as caught:
            await create(client)
    assert type(caught.value) is expected
    assert str(caught.value) == str(raised)
    assert caught.value.reason == raised.reason
    assert caught.value.metadata == raised.metadata


async def test_violations_name_their_fields() -> None:
    violations = (FieldViolation("name", "required"), FieldViolation("tags[1]", "is empty"))
    async with playing(fails(errors.InvalidArgumentError(violations))) as (client, _):
        with pytest.raises(public.InvalidArgumentError) as caught:
            await create(client)
    assert caught.value.violations == violations
    assert caught.value.code is StatusCode.INVALID_ARGUMENT


async def test_an_internal_error_is_the_plain_one() -> None:
    async with playing(fails(RuntimeError("secret"))) as (client, _):
        with pytest.raises(TaskerClientError, match="internal error") as caught:
            await create(client)
    assert type(caught.value) is TaskerClientError
    assert caught.value.code is StatusCode.INTERNAL
    assert "secret" not in str(caught.value)


async def test_a_call_the_service_lacks_has_a_reason_all_the_same() -> None:
    async with playing(FOUND, only="TaskService") as (client, _):
        with pytest.raises(public.UnimplementedError) as caught:
            await client.steps(TASK)
    assert caught.value.reason == "UNIMPLEMENTED"
    assert caught.value.metadata == {}
