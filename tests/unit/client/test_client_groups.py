"""Groups of calls: what is sent at once, and what is repeated while the service is unavailable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from grpc import StatusCode

from tasker.client import AlreadyExistsError, NewTask, StepAction, TaskerClient, UnavailableError
from tasker.domain import errors
from tasker.v1 import batch_pb2, operations_pb2, template_admin_pb2
from tests.unit.client.scripted import TASK, fails, playing, sends, task_message

BUSY = fails(errors.UnavailableError("too busy", retry_after_seconds=0))
WHO: dict[str, Any] = {"performed_by": "anna", "reason": "why not"}
PAUSE: dict[str, Any] = {"requested_by": "anna", "reason": "why not"}
STEP = StepAction(action="reset", task_uuid=TASK, step_uuid=TASK, **WHO)


def created(count: int) -> batch_pb2.CreateTasksResponse:
    return batch_pb2.CreateTasksResponse(results=[batch_pb2.CreatedTask(task_uuid=str(TASK))] * count)


async def test_no_more_goes_into_one_call_than_it_takes() -> None:
    large = {"texts": ["x" * 9_000] * 110}
    small = [NewTask("shop", "checkout")] * 1001
    async with playing(sends(created(3)), sends(created(1)), sends(created(1000)), sends(created(1))) as (
        client,
        script,
    ):
        assert len(await client.batches.create([NewTask("shop", "checkout", large)] * 4)) == 4
        assert len(await client.batches.create(small)) == 1001
    assert [len(request.tasks) for request in script.requests] == [3, 1, 1000, 1]
    assert max(request.ByteSize() for request in script.requests) < 4 * 1024 * 1024


async def test_all_or_nothing_is_one_call() -> None:
    async with playing(sends(created(1500))) as (client, script):
        await client.batches.create([NewTask("shop", "checkout")] * 1500, all_or_nothing=True)
    assert [(len(request.tasks), request.all_or_nothing) for request in script.requests] == [(1500, True)]


async def test_nothing_is_sent_for_nothing() -> None:
    async with playing(BUSY) as (client, script):
        assert await client.batches.create([]) == ()
        assert await client.batches.create([], all_or_nothing=True) == ()
        assert await client.batches.cancel([]) == ()
        assert await client.batches.resolve([]) == ()
    assert script.requests == []


async def test_an_item_that_is_refused_has_the_error_of_a_call_of_its_own() -> None:
    status = batch_pb2.ItemStatus(
        code=StatusCode.ALREADY_EXISTS.value[0],
        message="there",
        reason="IDENTITY_CONFLICT",
        metadata={"a": "b"},
    )
    strange = batch_pb2.ItemStatus(code=99, message="what")
    answer = batch_pb2.CreateTasksResponse(
        results=[batch_pb2.CreatedTask(status=status), batch_pb2.CreatedTask(status=strange)]
    )
    async with playing(sends(answer)) as (client, _):
        refused, unknown = await client.batches.create([NewTask("shop", "checkout")] * 2)
    assert isinstance(refused.error, AlreadyExistsError)
    assert (refused.task_uuid, str(refused.error), refused.error.reason) == (
        None,
        "there",
        "IDENTITY_CONFLICT",
    )
    assert refused.error.metadata == {"a": "b"}
    assert unknown.error is not None
    assert unknown.error.code is StatusCode.UNKNOWN


REPEATED: list[tuple[Callable[[TaskerClient], Awaitable[object]], object]] = [
    (lambda client: client.batches.create([NewTask("a", "b", idempotency_key="k")]), created(1)),
    (
        lambda client: client.batches.cancel([TASK]),
        batch_pb2.CancelTasksResponse(results=[batch_pb2.CancelledTask(task_uuid=str(TASK))]),
    ),
    (lambda client: client.registry.register("a: b"), template_admin_pb2.RegisterTemplateResponse()),
    (lambda client: client.registry.validate("a: b"), template_admin_pb2.ValidateTemplateResponse()),
    (lambda client: client.registry.versions("a", "b"), template_admin_pb2.ListVersionsResponse()),
    (lambda client: client.registry.deactivate("a", "b", "1.0.0"), template_admin_pb2.DeactivateResponse()),
    (lambda client: client.registry.activate("a", "b", "1.0.0"), template_admin_pb2.ActivateResponse()),
    (lambda client: client.operations.queues(), operations_pb2.ListQueuesResponse()),
    (
        lambda client: client.operations.pause_namespace("a", **PAUSE),
        operations_pb2.PauseNamespaceResponse(),
    ),
    (
        lambda client: client.operations.resume_namespace("a", requested_by="anna"),
        operations_pb2.ResumeNamespaceResponse(),
    ),
    (
        lambda client: client.operations.requeue_task(TASK, **WHO),
        operations_pb2.RequeueTaskResponse(task=task_message()),
    ),
]
ONCE: list[Callable[[TaskerClient], Awaitable[object]]] = [
    lambda client: client.batches.create([NewTask("a", "b", idempotency_key="k"), NewTask("a", "b")]),
    lambda client: client.batches.resolve([STEP]),
    lambda client: client.operations.retry_task(TASK, **WHO),
    lambda client: client.operations.resume_task(TASK, **WHO),
    lambda client: client.operations.requeue_poison(7, **WHO),
]


@pytest.mark.parametrize(("call", "answer"), REPEATED)
async def test_what_does_no_harm_is_repeated(
    call: Callable[[TaskerClient], Awaitable[object]], answer: Any
) -> None:
    async with playing(BUSY, sends(answer)) as (client, script):
        await call(client)
    assert len(script.requests) == 2


@pytest.mark.parametrize("call", ONCE)
async def test_what_may_have_been_done_is_not_repeated(
    call: Callable[[TaskerClient], Awaitable[object]],
) -> None:
    async with playing(BUSY) as (client, script):
        with pytest.raises(UnavailableError, match="too busy"):
            await call(client)
    assert len(script.requests) == 1
