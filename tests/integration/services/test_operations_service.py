"""OperationsService over a channel: queues, pauses, and tasks as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode

from tasker.client import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    StepState,
    TaskerClient,
    TaskerClientError,
    TaskState,
)
from tasker.domain.dlq import DlqReason
from tasker.messaging.queues import Band, worker_queue
from tasker.orchestration.service import OrchestrationService
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.operations.submit import ResultToSubmit
from tests.support import services
from tests.support.dynamic import split, workflow
from tests.support.engine import NAMESPACE, Engine, chain, graph, success
from tests.support.faults import send_by_hand
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted, rival, start_blocked
from tests.support.waiting import until
from tests.support.workshop import Gate, Workshop

WHO: dict[str, Any] = {"performed_by": "anna", "reason": "the bank is back"}
PAUSE: dict[str, Any] = {"requested_by": "anna", "reason": "the bank is down"}
TWO_BRANCHES = graph({"left": [], "right": [], "end": ["left", "right"]}) | {"name": "branches"}


@pytest.fixture
async def client(orchestration: OrchestrationService) -> AsyncIterator[TaskerClient]:
    async with TaskerClient(orchestration.address) as client:
        yield client


async def refused(call: Awaitable[object]) -> TaskerClientError:
    """Return how a call is refused."""
    with pytest.raises(TaskerClientError) as caught:
        await call
    return caught.value


def done(step: ClaimedStep) -> ResultToSubmit:
    return success(step, {})


async def messages_of(engine: Engine, band: Band = Band.NORMAL) -> int:
    return await engine.messages(worker_queue(NAMESPACE, band))


# queues


async def test_queues_show_what_waits_in_them(client: TaskerClient, engine: Engine) -> None:
    template = await engine.register(chain(1))
    await engine.register(chain(1) | {"namespace_name": "another"})
    assert [
        (queue.name, queue.namespace, queue.priority_band) for queue in await client.operations.queues()
    ] == [
        ("orchestration_step_results", None, None),
        ("orchestration_step_judgements", None, None),
        ("worker_another_queue", "another", "normal"),
        ("worker_test_queue", "test", "normal"),
    ]
    for priority in (0, 0, 0, 5):
        await engine.request(template, priority=priority)
    await engine.move_clock(60)
    await engine.claim(1, handlers=("other",))  # puts one of each queue back for later
    await engine.register_worker(namespaces=["test", "third"])
    high, normal = await client.operations.queues("test")
    assert (high.name, high.priority_band, high.visible, high.delayed) == (
        "worker_test_high_queue",
        "high",
        0,
        1,
    )
    assert (normal.visible, normal.delayed, normal.workers, normal.pause) == (2, 1, 1, None)
    assert normal.oldest_age_seconds is not None
    assert normal.oldest_age_seconds >= 60
    (another,) = await client.operations.queues("another")
    assert (another.visible, another.delayed, another.oldest_age_seconds, another.workers) == (0, 0, None, 0)
    assert await client.operations.queues("nowhere") == ()


async def test_a_long_queue_is_counted_up_to_a_limit(client: TaskerClient, engine: Engine) -> None:
    await engine.register(chain(1))
    await engine.sql(
        f"INSERT INTO pgmq.q_{worker_queue(NAMESPACE)} (vt, message) SELECT clock_timestamp(), '{{}}' "
        "FROM generate_series(1, 10100)"
    )
    (queue,) = await client.operations.queues("test")
    assert queue.visible == 10_000


async def test_a_worker_that_stopped_or_went_silent_serves_nothing(
    client: TaskerClient, engine: Engine
) -> None:
    await engine.register(chain(1))

    async def workers() -> int:
        (queue,) = await client.operations.queues("test")
        return queue.workers

    await engine.register_worker(namespaces=["test"])
    assert await workers() == 1
    await engine.move_clock(91)
    assert await workers() == 0
    await engine.beat(slots_in_use=0)
    assert await workers() == 1
    await engine.retire_worker()
    assert await workers() == 0


# pauses


async def test_a_paused_namespace_is_claimed_by_nobody_until_it_is_resumed(
    client: TaskerClient, engine: Engine
) -> None:
    template = await engine.register(chain(1))
    other = await engine.register(chain(1) | {"namespace_name": "another"})
    for priority in (-1, 0, 1):
        await engine.request(template, priority=priority)
    pause = await client.operations.pause_namespace("test", **PAUSE)
    assert (pause.namespace, pause.requested_by, pause.reason) == ("test", "anna", "the bank is down")
    assert await engine.claim() == []

    await client.create("test", "workflow")  # creation goes on
    await engine.request(other)
    (claimed,) = await engine.worker.claim(["worker_test_queue", "worker_another_queue"], ("work",), 10)
    assert claimed.namespace == "another"
    assert {queue.pause for queue in await client.operations.queues("test")} == {pause}
    assert [queue.pause for queue in await client.operations.queues("another")] == [None]

    assert await client.operations.resume_namespace("test", requested_by="ben")
    assert len(await engine.claim()) == 4
    assert {queue.pause for queue in await client.operations.queues()} == {None}


async def test_what_was_claimed_before_is_finished_and_what_follows_waits(
    client: TaskerClient, engine: Engine
) -> None:
    task = await engine.create(chain(2))
    (step,) = await engine.claim()
    await client.operations.pause_namespace("test", **PAUSE)
    finished = await engine.finish(done(step), limit=10)  # the short way, which claims what follows
    assert (finished.accepted, finished.claimed) == ({step.step_uuid}, [])
    assert await engine.states(task) == {"s1": "complete", "s2": "enqueued"}
    assert await messages_of(engine) == 1
    await client.operations.resume_namespace("test", requested_by="anna")
    (following,) = await engine.claim()
    assert following.name == "s2"


async def test_on_the_short_way_others_go_on_while_one_namespace_is_paused(
    client: TaskerClient, engine: Engine
) -> None:
    paused, other = (
        await engine.create(chain(2)),
        await engine.create(chain(2) | {"namespace_name": "another"}),
    )
    queues = ["worker_test_queue", "worker_another_queue"]
    steps = await engine.worker.claim(queues, ("work",), 10)
    assert len(steps) == 2
    await client.operations.pause_namespace("test", **PAUSE)
    finished = await engine.finish(*map(done, steps), limit=10, queues=queues)
    assert [step.task_uuid for step in finished.claimed] == [other]
    assert await engine.states(paused) == {"s1": "complete", "s2": "enqueued"}
    assert await messages_of(engine) == 1


async def test_a_pause_that_is_there_stays(client: TaskerClient, engine: Engine) -> None:
    await engine.register(chain(1))
    first = await client.operations.pause_namespace("test", **PAUSE)
    again = await client.operations.pause_namespace("test", requested_by="ben", reason="no idea")
    assert again == first
    assert await client.operations.resume_namespace("test", requested_by="ben")
    assert not await client.operations.resume_namespace("test", requested_by="ben")


async def test_a_pause_outlives_the_services(database_url: str, engine: Engine) -> None:
    await engine.create(chain(1))
    async with services.orchestration(database_url) as one, TaskerClient(one.address) as client:
        pause = await client.operations.pause_namespace("test", **PAUSE)
    assert await engine.claim() == []
    async with services.orchestration(database_url) as another, TaskerClient(another.address) as client:
        assert [queue.pause for queue in await client.operations.queues("test")] == [pause]


async def test_detailed_health_names_paused_namespaces(client: TaskerClient, engine: Engine) -> None:
    await engine.register(chain(1))
    for paused in ((), ("test",)):
        info = (await client.health()).info
        assert info is not None
        assert info.paused_namespaces == paused
        await client.operations.pause_namespace("test", **PAUSE)


async def test_what_cannot_be_paused_is_refused(client: TaskerClient, engine: Engine) -> None:
    await engine.register(chain(1))
    refusal = await refused(client.operations.pause_namespace("nowhere", **PAUSE))
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "NAMESPACE_NOT_FOUND")
    assert refusal.metadata == {"namespace": "nowhere"}
    assert isinstance(
        await refused(client.operations.resume_namespace("nowhere", requested_by="a")), NotFoundError
    )
    refusal = await refused(client.operations.pause_namespace("", requested_by=" ", reason="x" * 501))
    assert {violation.field for violation in refusal.violations} == {"namespace", "requested_by", "reason"}
    refusal = await refused(client.operations.resume_namespace("test", requested_by=""))
    assert {violation.field for violation in refusal.violations} == {"requested_by"}
    assert [queue.pause for queue in await client.operations.queues("test")] == [None]


async def test_a_claim_that_waits_for_a_pause_to_commit_gets_what_was_there_before_it(
    client: TaskerClient, engine: Engine
) -> None:
    await engine.create(chain(1))
    async with rival(engine) as pausing:
        await pausing.sql("SELECT * FROM tasker.pause_namespace_v1('test', 'anna', 'the bank is down')")
        (claimed,) = await engine.claim()  # nobody waits for it, and until it is committed it is none
        await pausing.commit()
    await engine.create(chain(1))
    assert await engine.claim() == []
    assert await engine.succeed(claimed) == {claimed.step_uuid}


async def test_a_real_worker_stops_at_a_pause_and_goes_on_at_once_when_it_ends(
    client: TaskerClient, database_url: str, workshop: Workshop, tmp_path: Path
) -> None:
    folder = services.write_templates(tmp_path / "templates", chain(3))
    gate = workshop.behaviours["s1"] = Gate()
    async with services.worker(database_url, workshop.registry, folder):
        task = await client.create("test", "workflow")
        await gate.entered.wait()
        await client.operations.pause_namespace("test", **PAUSE)
        gate.opened.set()  # s1 is finished by the worker, which would go on with s2 itself

        async def waits() -> bool:
            found = await client.get(task.task_uuid, steps=True)
            return found.step("s1").state is StepState.COMPLETE

        await until(waits)
        others = [await client.create("test", "workflow") for _ in range(5)]
        assert len(workshop.calls) == 1
        assert (await client.get(task.task_uuid, steps=True)).step("s2").state is StepState.ENQUEUED
        await client.operations.resume_namespace("test", requested_by="anna")
        for each in (task, *others):
            assert (await client.wait(each.task_uuid, timeout=20)).state is TaskState.COMPLETE


async def test_pausing_amid_many_claims_loses_nothing(
    client: TaskerClient, database_url: str, workshop: Workshop, tmp_path: Path
) -> None:
    folder = services.write_templates(tmp_path / "templates", chain(3))
    async with services.worker(database_url, workshop.registry, folder):
        tasks = [await client.create("test", "workflow") for _ in range(30)]
        for _ in range(10):
            await client.operations.pause_namespace("test", **PAUSE)
            await client.operations.resume_namespace("test", requested_by="anna")
        for task in tasks:
            assert (await client.wait(task.task_uuid, timeout=20)).state is TaskState.COMPLETE
    assert len(workshop.calls) == 90  # each step ran once


# tasks as a whole


async def _two_failed(engine: Engine) -> UUID:
    task = await engine.create(TWO_BRANCHES)
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    assert await engine.states(task) == {"left": "error", "right": "error", "end": "pending"}
    return task


async def _end_in_error(engine: Engine, task: UUID) -> None:
    await engine.sql("SELECT tasker.fail_tasks_v1(ARRAY[%s], '{}')", task)
    assert await engine.state(task) == "error"


async def test_retrying_a_task_resets_all_its_failed_steps(client: TaskerClient, engine: Engine) -> None:
    task = await _two_failed(engine)
    retried = await client.operations.retry_task(task, **WHO)
    assert sorted(retried.reset_steps) == ["left", "right"]
    assert retried.task.state is TaskState.STEPS_IN_PROCESS
    assert (retried.task.failed_steps, retried.task.context) == (0, {})
    assert await engine.states(task) == {"left": "enqueued", "right": "enqueued", "end": "pending"}
    rows = await engine.sql(
        "SELECT metadata, attempt FROM tasker.workflow_step_transitions "
        "WHERE task_uuid = %s AND from_state = 'error'",
        task,
    )
    assert rows == [({"event": "reset_for_retry", **WHO}, 0)] * 2
    await engine.run(task)
    assert await engine.state(task) == "complete"
    await assert_history_is_whole(engine, task)


async def test_retrying_reopens_a_task_that_ended_in_error(client: TaskerClient, engine: Engine) -> None:
    task = await _two_failed(engine)
    await _end_in_error(engine, task)
    retried = await client.operations.retry_task(task, **WHO)
    assert retried.task.state is not TaskState.ERROR
    await engine.run(task)
    assert await engine.state(task) == "complete"


async def test_all_failed_instances_of_a_batch_are_retried_as_many_at_once_as_may_be(
    client: TaskerClient, engine: Engine
) -> None:
    document = workflow(
        "cut: batchable",
        "part: batch_worker < cut",
        "join: deferred_convergence < part",
        cut={"batch_config": {"worker_template": "part", "parallelism": 2, "failure_strategy": "isolate"}},
        part={"retry": {"max_attempts": 1}},
    )
    task = await engine.create(document)
    await engine.succeed(*await engine.claim(), result=split(6))
    await engine.process()
    while claimed := await engine.claim():
        await engine.fail(*claimed)
        await engine.process()
    assert len([state for state in (await engine.states(task)).values() if state == "error"]) == 6
    retried = await client.operations.retry_task(task, **WHO)
    assert len(retried.reset_steps) == 6
    assert len(await engine.claim()) == 2
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_a_task_without_a_failed_step_is_not_retried(client: TaskerClient, engine: Engine) -> None:
    task = await engine.create(chain(1))
    refusal = await refused(client.operations.retry_task(task, **WHO))
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "GUARD_FAILED")
    await client.cancel(task)
    refusal = await refused(client.operations.retry_task(task, **WHO))
    assert refusal.reason == "TASK_TRANSITION_NOT_ALLOWED"
    assert "cancelled" in str(refusal)
    assert isinstance(await refused(client.operations.retry_task(uuid4(), **WHO)), NotFoundError)
    refusal = await refused(client.operations.retry_task(task, performed_by="", reason=""))
    assert {violation.field for violation in refusal.violations} == {"performed_by", "reason"}


async def test_two_operators_retry_one_task_and_one_of_them_does_it(
    client: TaskerClient, engine: Engine
) -> None:
    task = await _two_failed(engine)
    async with rival(engine) as busy:
        await busy.lock("tasks", task)
        both = [await start_blocked(engine, client.operations.retry_task(task, **WHO)) for _ in range(2)]
        await busy.commit()
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InvalidArgumentError", "RetriedTask"]
    assert await messages_of(engine) == 2


async def test_a_stuck_task_is_resumed(client: TaskerClient, engine: Engine) -> None:
    task = await engine.create(chain(1))
    assert isinstance(await refused(client.operations.resume_task(task, **WHO)), InvalidArgumentError)
    await _end_in_error(engine, task)
    resumed = await client.operations.resume_task(task, **WHO)
    assert resumed.state is TaskState.STEPS_IN_PROCESS
    failed = await _two_failed(engine)
    await _end_in_error(engine, failed)
    refusal = await refused(client.operations.resume_task(failed, **WHO))
    assert refusal.reason == "GUARD_FAILED"


async def test_lost_messages_are_sent_again_and_others_left_alone(
    client: TaskerClient, engine: Engine
) -> None:
    task = await engine.create(graph({"a": [], "b": [], "c": []}))
    kept = await client.operations.requeue_task(task, **WHO)
    assert (kept.messages, kept.task.state) == (0, TaskState.STEPS_IN_PROCESS)
    await engine.sql(
        f"DELETE FROM pgmq.q_{worker_queue(NAMESPACE)} WHERE message ->> 'step_uuid' <> %s",
        str((await engine.steps(task))["a"].step_uuid),
    )
    assert (await client.operations.requeue_task(task, **WHO)).messages == 2
    assert {step.name for step in await engine.claim()} == {"a", "b", "c"}


async def test_nothing_of_a_task_that_is_over_is_requeued(client: TaskerClient, engine: Engine) -> None:
    task = await engine.create(chain(1))
    await client.cancel(task)
    refusal = await refused(client.operations.requeue_task(task, **WHO))
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "TASK_TRANSITION_NOT_ALLOWED")
    assert isinstance(await refused(client.operations.requeue_task(uuid4(), **WHO)), NotFoundError)


async def test_a_task_is_put_before_a_person(client: TaskerClient, engine: Engine) -> None:
    task = await engine.create(chain(1))
    sent = await client.operations.send_to_dlq(task, requested_by="anna", reason="odd prices")
    assert (sent.created, sent.entry.task_uuid, sent.entry.dlq_reason) == (True, task, DlqReason.MANUAL_DLQ)
    assert sent.entry.metadata is not None
    assert sent.entry.metadata.items() >= {"requested_by": "anna", "reason": "odd prices"}.items()
    again = await client.operations.send_to_dlq(task, requested_by="ben", reason="me too")
    assert (again.created, again.entry) == (False, sent.entry)
    assert await client.dlq.get(task) == sent.entry
    assert await engine.state(task) == "steps_in_process"  # an entry moves nothing
    assert isinstance(
        await refused(client.operations.send_to_dlq(uuid4(), requested_by="anna", reason="x")), NotFoundError
    )
    refusal = await refused(client.operations.send_to_dlq(task, requested_by="x" * 256, reason="x" * 501))
    assert {violation.field for violation in refusal.violations} == {"requested_by", "reason"}


async def test_no_entry_says_that_nobody_serves_a_paused_namespace(
    client: TaskerClient, engine: Engine
) -> None:
    task = await engine.create(chain(1))
    await client.operations.pause_namespace("test", **PAUSE)
    await engine.move_clock(3600)
    unserved = "SELECT namespace, tasks FROM tasker.add_unserved_entries_v1(interval '10 minutes', 100)"
    assert await engine.sql(unserved) == []
    await client.operations.resume_namespace("test", requested_by="anna")
    assert await engine.sql(unserved) == [("test", 1)]
    assert (await client.dlq.get(task)).dlq_reason is DlqReason.WORKER_UNAVAILABLE


# poison


async def _poisoned(engine: Engine, message: Any) -> None:
    msg_id = await send_by_hand(engine, worker_queue(NAMESPACE), message)
    assert await engine.worker.record_poison(worker_queue(NAMESPACE), msg_id, "ValueError: odd")


async def test_poison_is_listed_in_pages_newest_first(client: TaskerClient, engine: Engine) -> None:
    task = await engine.create(chain(1))
    step = (await engine.steps(task))["s1"].step_uuid
    for number in range(5):
        await _poisoned(engine, {"n": number})
    await _poisoned(engine, {"task_uuid": str(task), "step_uuid": str(step)})
    found = [message async for message in client.operations.poison(page_size=2)]
    assert [message.message.get("n") for message in found] == [None, 4, 3, 2, 1, 0]
    newest, older, *_ = found
    assert (newest.queue, newest.error) == (worker_queue(NAMESPACE), "ValueError: odd")
    assert (newest.task_uuid, newest.step_uuid, newest.step_state) == (task, step, StepState.ERROR)
    assert (older.task_uuid, older.step_uuid, older.step_state) == (None, None, None)
    assert [message.poison_id async for message in client.operations.poison(task_uuid=task)] == [
        newest.poison_id
    ]


async def test_the_step_of_a_poison_message_is_given_another_try(
    client: TaskerClient, engine: Engine
) -> None:
    task = await engine.create(chain(1))
    step = (await engine.steps(task))["s1"].step_uuid
    await _poisoned(engine, {"task_uuid": str(task), "step_uuid": str(step)})
    (message,) = [message async for message in client.operations.poison()]
    requeued = await client.operations.requeue_poison(message.poison_id, **WHO)
    assert (requeued.task.task_uuid, requeued.step_uuid) == (task, step)
    refusal = await refused(client.operations.requeue_poison(message.poison_id, **WHO))
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "STEP_TRANSITION_NOT_ALLOWED")
    await engine.run(task)
    assert await engine.state(task) == "complete"


async def test_poison_that_nothing_can_be_made_of_is_not_requeued(
    client: TaskerClient, engine: Engine
) -> None:
    await engine.register(chain(1))
    await _poisoned(engine, {"n": 1})
    await _poisoned(engine, {"task_uuid": str(uuid4()), "step_uuid": str(uuid4())})
    unknown, nameless = [message async for message in client.operations.poison()]
    refusal = await refused(client.operations.requeue_poison(nameless.poison_id, **WHO))
    assert isinstance(refusal, FailedPreconditionError)
    assert refusal.reason == "POISON_WITHOUT_STEP"
    refusal = await refused(client.operations.requeue_poison(unknown.poison_id, **WHO))
    assert refusal.reason == "TASK_NOT_FOUND"
    for nobody in (10**9, 2**63 - 1, -(2**63)):
        refusal = await refused(client.operations.requeue_poison(nobody, **WHO))
        assert (refusal.reason, refusal.metadata) == ("POISON_NOT_FOUND", {"poison_id": str(nobody)})
