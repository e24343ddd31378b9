"""BatchService over a channel: many tasks or steps with one call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode

from tasker.client import (
    AbortedError,
    AlreadyExistsError,
    CreatedTask,
    InvalidArgumentError,
    NewTask,
    NotFoundError,
    StepAction,
    TaskerClient,
    TaskerClientError,
    TaskState,
)
from tasker.domain.templates.document import Template
from tasker.messaging.queues import worker_queue
from tasker.orchestration.service import OrchestrationService
from tasker.v1 import batch_pb2, batch_pb2_grpc, tasks_pb2
from tests.support import clients
from tests.support.clients import Client
from tests.support.engine import NAMESPACE, Engine, chain, graph
from tests.support.faults import refuse
from tests.support.rivals import rival, start_blocked
from tests.support.waiting import PATIENCE_SECONDS

STRICT = chain(2) | {"identity_strategy": "strict"}
WHO: dict[str, Any] = {"performed_by": "anna", "reason": "the bank is back"}


@pytest.fixture
async def client(orchestration: OrchestrationService) -> AsyncIterator[TaskerClient]:
    async with TaskerClient(orchestration.address) as client:
        yield client


@pytest.fixture
async def plain(orchestration: OrchestrationService) -> AsyncIterator[batch_pb2_grpc.BatchServiceAsyncStub]:
    async with Client(orchestration.address) as client:
        yield batch_pb2_grpc.BatchServiceStub(client.channel)


def numbered(*numbers: int, **more: Any) -> list[NewTask]:
    return [NewTask("test", "workflow", {"n": number}, **more) for number in numbers]


def classes(results: Sequence[Any]) -> list[str | None]:
    """Return why each item was refused, None where it was not."""
    return [result.error.reason if result.error else None for result in results]


async def contexts(engine: Engine) -> list[int]:
    """Return the numbers of all tasks there are."""
    return sorted(n for (n,) in await engine.sql("SELECT (context ->> 'n')::integer FROM tasker.tasks"))


# creating


async def test_many_tasks_are_created_with_one_call(client: TaskerClient, engine: Engine) -> None:
    await engine.register(chain(2))
    results = await client.batches.create(
        numbered(*range(200), tags=["bulk"], priority=3, initiator="loader", reason="night run")
    )
    assert classes(results) == [None] * 200
    assert await contexts(engine) == list(range(200))
    assert await engine.messages("worker_test_high_queue") == 200
    for number in (0, 63, 64, 199):  # each result belongs to its request
        task_uuid = results[number].task_uuid
        assert task_uuid is not None
        task = await client.get(task_uuid)
        assert (task.context, task.tags, task.priority) == ({"n": number}, ("bulk",), 3)
        assert (task.initiator, task.reason, task.state) == (
            "loader",
            "night run",
            TaskState.STEPS_IN_PROCESS,
        )
    first = results[0].task_uuid
    assert first is not None
    assert set((await engine.states(first)).values()) == {"enqueued", "pending"}


async def test_each_item_has_a_result_of_its_own(
    plain: batch_pb2_grpc.BatchServiceAsyncStub, client: TaskerClient, engine: Engine
) -> None:
    await engine.register(STRICT)
    await client.create("test", "workflow", {"n": 1})
    response = await plain.CreateTasks(
        batch_pb2.CreateTasksRequest(
            tasks=[
                tasks_pb2.CreateTaskRequest(namespace="test", name="workflow", context_json=text, **more)
                for text, more in (
                    ('{"n": 1}', {}),
                    ('{"n": 2}', {}),
                    ('{"n": ', {}),
                    ('{"n": 3}', {"version": "9.9.9"}),
                    ('{"n": 4}', {"priority": 101, "correlation_id": "7"}),
                    ('{"n": 2}', {}),
                    ('{"n": 5}', {}),
                )
            ]
        ),
        timeout=PATIENCE_SECONDS,
    )
    assert [(result.status.code, result.status.reason) for result in response.results] == [
        (StatusCode.ALREADY_EXISTS.value[0], "IDENTITY_CONFLICT"),
        (0, ""),
        (StatusCode.INVALID_ARGUMENT.value[0], "INVALID_ARGUMENT"),
        (StatusCode.INVALID_ARGUMENT.value[0], "TEMPLATE_NOT_FOUND"),
        (StatusCode.INVALID_ARGUMENT.value[0], "INVALID_ARGUMENT"),
        (StatusCode.ALREADY_EXISTS.value[0], "IDENTITY_CONFLICT"),  # of equal ones the first is created
        (0, ""),
    ]
    assert response.created == 2
    assert response.results[3].status.metadata["known_versions"] == "1.0.0"
    assert "context_json" in response.results[2].status.message
    assert "correlation_id" in response.results[4].status.message
    assert "priority" in response.results[4].status.message
    assert {bool(result.task_uuid) for result in response.results if result.status.code} == {False}
    assert await contexts(engine) == [1, 2, 5]


async def test_a_batch_with_keys_may_be_sent_again(client: TaskerClient, engine: Engine) -> None:
    await engine.register(STRICT)
    wanted = [NewTask("test", "workflow", {"n": n}, idempotency_key=f"k{n}") for n in range(3)]
    first = await client.batches.create(wanted)
    again = await client.batches.create(
        [*wanted, NewTask("test", "workflow", {"n": 9}, idempotency_key="k0")]
    )
    assert [result.task_uuid for result in again[:3]] == [result.task_uuid for result in first]
    assert [result.already_existed for result in again] == [True, True, True, False]
    assert isinstance(again[3].error, AlreadyExistsError)
    twice = await client.batches.create([NewTask("test", "workflow", {"n": 5}, idempotency_key="k5")] * 2)
    assert [result.already_existed for result in twice] == [False, True]
    assert twice[0].task_uuid == twice[1].task_uuid


async def test_a_call_has_1_to_1000_items(
    plain: batch_pb2_grpc.BatchServiceAsyncStub, client: TaskerClient, engine: Engine
) -> None:
    await engine.register(chain(1))
    item = tasks_pb2.CreateTaskRequest(namespace="test", name="workflow")
    for call, field in (
        (plain.CreateTasks(batch_pb2.CreateTasksRequest()), "tasks"),
        (plain.CreateTasks(batch_pb2.CreateTasksRequest(tasks=[item] * 1001)), "tasks"),
        (plain.CancelTasks(batch_pb2.CancelTasksRequest()), "task_uuids"),
        (plain.CancelTasks(batch_pb2.CancelTasksRequest(task_uuids=["7"] * 1001)), "task_uuids"),
        (plain.ResolveSteps(batch_pb2.ResolveStepsRequest()), "steps"),
    ):
        refusal = await clients.refused(call)
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {field})
    assert await contexts(engine) == []
    assert await client.batches.create([]) == ()
    with pytest.raises(InvalidArgumentError, match="1 to 1000"):
        await client.batches.create(numbered(*range(1001)), all_or_nothing=True)
    results = await client.batches.create(numbered(*range(1001)))  # the client makes two calls of it
    assert classes(results) == [None] * 1001
    assert await contexts(engine) == list(range(1001))


async def test_large_contexts_are_spread_over_calls(client: TaskerClient, engine: Engine) -> None:
    await engine.register(chain(1))
    results = await client.batches.create(
        [NewTask("test", "workflow", {"n": n, "texts": ["x" * 9000] * 100}) for n in range(8)]
    )
    assert classes(results) == [None] * 8


async def test_one_that_the_database_refuses_does_not_take_others_with_it(
    client: TaskerClient, engine: Engine
) -> None:
    await engine.register(chain(1))
    await refuse(engine, "tasker.tasks", "NEW.context ->> 'n' = '7'")
    results = await client.batches.create(numbered(*range(10)))
    assert classes(results) == ["INTERNAL" if n == 7 else None for n in range(10)]
    assert await contexts(engine) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    error = results[7].error
    assert error is not None
    assert "refused by the test" not in str(error)


# all or nothing


async def test_all_are_created_or_none(client: TaskerClient, engine: Engine) -> None:
    await engine.register(STRICT)
    results = await client.batches.create(numbered(*range(150)), all_or_nothing=True)
    assert classes(results) == [None] * 150
    for refused, reason in (
        (NewTask("test", "workflow", {"n": 3}), "IDENTITY_CONFLICT"),
        (NewTask("test", "nothing"), "TEMPLATE_NOT_FOUND"),
        (NewTask("test", "workflow", tags=[""]), "INVALID_ARGUMENT"),
        (NewTask("test", "workflow", {"n": 151}), "IDENTITY_CONFLICT"),  # twice in the same call
    ):
        results = await client.batches.create(
            [*numbered(*range(150, 250)), refused, *numbered(300)], all_or_nothing=True
        )
        assert classes(results) == [*["ABANDONED"] * 100, reason, "ABANDONED"]
        assert {result.task_uuid for result in results} == {None}
        abandoned = results[0].error
        assert isinstance(abandoned, AbortedError)
        assert abandoned.metadata == {"refused_index": "100"}
        assert await contexts(engine) == list(range(150))
    assert await engine.messages(worker_queue(NAMESPACE)) == 150
    assert len(await engine.sql("SELECT 1 FROM tasker.task_identities")) == 150


async def test_replays_are_no_reason_to_refuse_the_others(client: TaskerClient, engine: Engine) -> None:
    await engine.register(STRICT)
    there = await client.create("test", "workflow", {"n": 0}, idempotency_key="k0")
    wanted = [NewTask("test", "workflow", {"n": n}, idempotency_key=f"k{n}") for n in (0, 1, 1, 2)]
    results = await client.batches.create(wanted, all_or_nothing=True)
    assert [result.already_existed for result in results] == [True, False, True, False]
    assert results[0].task_uuid == there.task_uuid
    assert results[1].task_uuid == results[2].task_uuid
    other = NewTask("test", "workflow", {"n": 9}, idempotency_key="k5")
    results = await client.batches.create(
        [NewTask("test", "workflow", {"n": 5}, idempotency_key="k5"), other], all_or_nothing=True
    )
    assert classes(results) == ["ABANDONED", "IDENTITY_CONFLICT"]


@pytest.mark.parametrize("there", [True, False])
async def test_all_or_nothing_waits_for_a_rival_and_then_decides(
    client: TaskerClient, engine: Engine, there: bool
) -> None:
    template = await engine.register(STRICT)
    identity = await _identity(engine, template, {"n": 99})
    async with rival(engine) as creating:
        await creating.sql(
            "INSERT INTO tasker.task_identities VALUES (%s, %s, clock_timestamp())", identity, uuid4()
        )
        waiting = await start_blocked(
            engine, client.batches.create(numbered(*range(100)), all_or_nothing=True)
        )
        assert await contexts(engine) == []
        await (creating.commit() if there else creating.rollback())
    results = await waiting
    if there:
        assert classes(results) == [*["ABANDONED"] * 99, "IDENTITY_CONFLICT"]
        assert await contexts(engine) == []
        assert len(await engine.sql("SELECT 1 FROM tasker.task_identities")) == 1
    else:
        assert classes(results) == [None] * 100
        assert await contexts(engine) == list(range(100))


async def test_calls_that_share_tasks_in_another_order_never_deadlock(
    client: TaskerClient, engine: Engine
) -> None:
    await engine.register(STRICT)
    numbers = list(range(150))
    calls = [
        client.batches.create(numbered(*order), all_or_nothing=True)
        for order in (numbers, numbers[::-1], numbers[75:] + numbers[:75])
    ]
    outcomes = await asyncio.gather(*calls)
    assert sorted(_created(results) for results in outcomes) == [0, 0, 150]
    assert await contexts(engine) == numbers


def _created(results: Sequence[CreatedTask]) -> int:
    return sum(result.task_uuid is not None for result in results)


async def _identity(engine: Engine, template: Template, context: dict[str, Any]) -> bytes:
    """Return the identity of a task: make one, and take it back."""
    task = (await engine.request(template, context)).task.task_uuid
    ((identity,),) = await engine.sql(
        "SELECT identity_hash FROM tasker.task_identities WHERE task_uuid = %s", task
    )
    for table in ("task_identities", "workflow_steps", "tasks"):
        await engine.sql(f"DELETE FROM tasker.{table} WHERE task_uuid = %s", task)
    return bytes(identity)


# cancelling


async def test_many_tasks_are_cancelled_with_one_call(client: TaskerClient, engine: Engine) -> None:
    template = await engine.register(chain(2))
    tasks = [(await engine.request(template)).task.task_uuid for _ in range(150)]
    await client.cancel(tasks[0])
    unknown = uuid4()
    results = await client.batches.cancel(
        [*tasks, unknown, "7", tasks[1]], reason="wrong prices", requested_by="anna"
    )
    assert [result.success for result in results] == [False, *[True] * 149, False, False, True]
    assert results[0].message is not None
    assert "already over: cancelled" in results[0].message
    assert classes(results[150:]) == ["TASK_NOT_FOUND", "INVALID_ARGUMENT", None]
    assert isinstance(results[150].error, NotFoundError)
    assert {await engine.state(task) for task in tasks} == {"cancelled"}
    ((metadata,),) = await engine.sql(
        "SELECT DISTINCT metadata FROM tasker.task_transitions WHERE to_state = 'cancelled' AND task_uuid <> %s",
        tasks[0],
    )
    assert (metadata["reason"], metadata["requested_by"]) == ("wrong prices", "anna")
    assert await engine.claim() == []


async def test_all_tasks_are_cancelled_or_none(client: TaskerClient, engine: Engine) -> None:
    template = await engine.register(chain(1))
    tasks = [(await engine.request(template)).task.task_uuid for _ in range(3)]
    results = await client.batches.cancel([*tasks, uuid4()], all_or_nothing=True)
    assert classes(results) == [*["ABANDONED"] * 3, "TASK_NOT_FOUND"]
    results = await client.batches.cancel(["7", *tasks], all_or_nothing=True)
    assert classes(results) == ["INVALID_ARGUMENT", *["ABANDONED"] * 3]
    assert {await engine.state(task) for task in tasks} == {"steps_in_process"}
    results = await client.batches.cancel(tasks, all_or_nothing=True)
    assert [result.success for result in results] == [True] * 3


async def test_a_text_that_is_too_long_cancels_nothing(client: TaskerClient, engine: Engine) -> None:
    task = await engine.create(chain(1))
    with pytest.raises(InvalidArgumentError) as refusal:
        await client.batches.cancel([task], reason="x" * 501)
    assert {violation.field for violation in refusal.value.violations} == {"reason"}
    assert await engine.state(task) == "steps_in_process"


# acting on steps


async def _failed(engine: Engine, count: int) -> list[tuple[UUID, UUID]]:
    """Return some failed steps with their tasks."""
    template = await engine.register(chain(1))
    for _ in range(count):
        await engine.request(template)
    steps = await engine.claim()
    await engine.fail(*steps, retryable=False)
    await engine.process()
    return [(step.task_uuid, step.step_uuid) for step in steps]


def acts(action: Any, steps: Sequence[tuple[UUID, UUID]], **more: Any) -> list[StepAction]:
    return [StepAction(action=action, task_uuid=task, step_uuid=step, **WHO, **more) for task, step in steps]


async def test_many_steps_are_acted_on_with_one_call(client: TaskerClient, engine: Engine) -> None:
    steps = await _failed(engine, 3)
    results = await client.batches.resolve(
        [
            *acts("reset", steps[:1]),
            *acts("resolve", steps[1:2]),
            *acts("complete", steps[2:], result=[1, 2**60]),
            *acts("reset", steps[1:2]),
            *acts("resolve", [(steps[0][0], uuid4())]),
            *acts("resolve", [(uuid4(), uuid4())], metadata={"of": "no use"}),
        ]
    )
    assert classes(results) == [
        None,
        None,
        None,
        "STEP_TRANSITION_NOT_ALLOWED",
        "STEP_NOT_FOUND",
        "INVALID_ARGUMENT",
    ]
    assert (results[0].task_uuid, results[0].step_uuid) == tuple(map(str, steps[0]))
    states = [(await engine.states(task))["s1"] for task, _ in steps]
    assert states == ["enqueued", "resolved_manually", "complete"]
    step = await client.step(*steps[2])
    assert step.result == [1, 2**60]


async def test_all_steps_are_acted_on_or_none(client: TaskerClient, engine: Engine) -> None:
    steps = await _failed(engine, 4)
    results = await client.batches.resolve(
        acts("reset", [*steps, (steps[0][0], uuid4()), steps[0]]), all_or_nothing=True
    )
    assert classes(results) == [*["ABANDONED"] * 4, "STEP_NOT_FOUND", "ABANDONED"]
    assert {(await engine.states(task))["s1"] for task, _ in steps} == {"error"}
    assert await engine.messages(worker_queue(NAMESPACE)) == 0
    results = await client.batches.resolve(acts("reset", steps), all_or_nothing=True)
    assert classes(results) == [None] * 4
    assert len(await engine.claim()) == 4


async def test_all_or_nothing_of_one_task_sees_what_it_did_before(
    client: TaskerClient, engine: Engine
) -> None:
    task = await engine.create(graph({"a": [], "b": [], "end": ["a", "b"]}))
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    found = await engine.steps(task)
    steps = [(task, found[name].step_uuid) for name in ("a", "b")]
    results = await client.batches.resolve(acts("resolve", [*steps, steps[0]]), all_or_nothing=True)
    assert classes(results) == ["ABANDONED", "ABANDONED", "STEP_TRANSITION_NOT_ALLOWED"]
    assert await engine.states(task) == {"a": "error", "b": "error", "end": "pending"}
    assert classes(await client.batches.resolve(acts("resolve", steps), all_or_nothing=True)) == [None, None]
    assert (await engine.states(task))["end"] == "enqueued"


async def test_calls_that_share_tasks_act_one_after_the_other(client: TaskerClient, engine: Engine) -> None:
    steps = await _failed(engine, 10)
    calls = [
        client.batches.resolve(acts("reset", order), all_or_nothing=True) for order in (steps, steps[::-1])
    ]
    outcomes = [classes(results) for results in await asyncio.gather(*calls)]
    assert [None] * 10 in outcomes
    assert sorted(each.count("ABANDONED") for each in outcomes) == [0, 9]


async def test_a_refusal_is_what_the_single_call_raises(client: TaskerClient, engine: Engine) -> None:
    ((task, step),) = await _failed(engine, 1)
    await client.batches.resolve(acts("resolve", [(task, step)]))
    (result,) = await client.batches.resolve(acts("reset", [(task, step)]))
    with pytest.raises(TaskerClientError) as single:
        await client.reset_step(task, step, **WHO)
    error = result.error
    assert error is not None
    assert (type(error), str(error), error.metadata) == (
        type(single.value),
        str(single.value),
        single.value.metadata,
    )
