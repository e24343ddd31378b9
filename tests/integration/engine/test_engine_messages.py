"""What travels between the services, and that nothing gets lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tasker.domain.results import ResultStatus, StepExecutionResult
from tasker.domain.uuids import uuid7
from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE
from tasker.persistence.operations.claim import ClaimedStep
from tasker.worker.handlers.attempts import WorkerIdentity
from tasker.worker.handlers.sealing import SealedResult
from tasker.worker.runtime.claims import OpenClaims
from tasker.worker.runtime.submitter import ResultSubmitter
from tests.support.engine import Engine, chain, diamond, failure, submission, success
from tests.support.faults import refuse, send_by_hand
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    disconnect,
    duplicate_messages,
    now,
    reconnect,
    rival,
    sessions_waiting,
    start_blocked,
    until,
)

WORKERS = "worker_test_queue"


# they hold ids and a format version


async def test_messages_hold_ids_and_a_format_version_only(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1), {"secret": "context"})
    step = (await any_engine.steps(task))["s1"].step_uuid
    expected = {"v": 1, "task_uuid": str(task), "step_uuid": str(step)}

    async def contents(queue: str) -> list[Any]:
        return [message for (message,) in await any_engine.sql(f"SELECT message FROM pgmq.q_{queue}")]

    assert await contents(WORKERS) == [expected]
    await any_engine.fail(*await any_engine.claim())
    assert await contents(JUDGEMENTS_QUEUE) == [expected]
    await any_engine.process()
    await any_engine.move_clock(10)
    await any_engine.timers.tick()
    assert await contents(WORKERS) == [expected]
    await any_engine.succeed(*await any_engine.claim(), result={"secret": "result"})
    assert await contents(RESULTS_QUEUE) == [expected]


# pop in a statement of its own, then act. A message becomes visible with its state, while the
# reader is on its way: it must see both or neither.


async def test_a_claim_does_not_lose_a_step_that_is_enqueued_while_it_pops(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2))
    await any_engine.succeed(*await any_engine.claim())
    async with rival(any_engine) as processing:
        await processing.sql("SELECT * FROM tasker.process_results_v1(10, 0, NULL)")
        await processing.sql(f"LOCK TABLE pgmq.q_{WORKERS} IN ACCESS EXCLUSIVE MODE")
        claiming = await start_blocked(any_engine, any_engine.claim())
        await processing.commit()
    assert [step.name for step in await claiming] == ["s2"]
    assert (await any_engine.states(task))["s2"] == "in_progress"


async def test_a_claim_does_not_lose_a_step_that_is_enqueued_while_it_waits(any_engine: Engine) -> None:
    first = await any_engine.create(chain(1))
    waited_for = (await any_engine.steps(first))["s1"].step_uuid
    async with rival(any_engine) as other:
        await other.lock("workflow_steps", waited_for)
        claiming = await start_blocked(
            any_engine, any_engine.worker.claim([WORKERS, "worker_later_queue"], ["work"], 10)
        )
        later = await any_engine.create(chain(1) | {"namespace_name": "later"})
        await other.rollback()
    claimed = [step.task_uuid for step in await claiming] + [
        step.task_uuid for step in await any_engine.worker.claim(["worker_later_queue"], ["work"], 10)
    ]
    assert claimed == [first, later]


async def test_processing_does_not_lose_a_result_that_is_submitted_while_it_pops(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    async with rival(any_engine) as submitting:
        await submitting.sql(*submission(success(step, {})))
        await submitting.sql(f"LOCK TABLE pgmq.q_{RESULTS_QUEUE} IN ACCESS EXCLUSIVE MODE")
        processing = await start_blocked(any_engine, any_engine.orchestration.process_results(10))
        await submitting.commit()
    assert (await processing).handled == 1
    assert await any_engine.state(task) == "complete"


async def test_judging_does_not_lose_a_failure_that_is_submitted_while_it_pops(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    async with rival(any_engine) as submitting:
        await submitting.sql(*submission(failure(step)))
        await submitting.sql(f"LOCK TABLE pgmq.q_{JUDGEMENTS_QUEUE} IN ACCESS EXCLUSIVE MODE")
        judging = await start_blocked(any_engine, any_engine.judgements.tick())
        await submitting.commit()
    await judging
    assert await any_engine.states(task) == {"s1": "waiting_for_retry"}


async def test_a_claim_that_fails_leaves_its_messages(any_engine: Engine) -> None:  # one transaction
    task = await any_engine.create(chain(1))
    await refuse(any_engine, "tasker.step_leases", "true", last=1)
    with pytest.raises(psycopg.errors.RaiseException):
        await any_engine.claim()
    assert await any_engine.states(task) == {"s1": "enqueued"}
    assert len(await any_engine.claim()) == 1


async def test_a_worker_that_dies_in_its_claim_leaves_the_step_to_others(engine: Engine) -> None:
    task = await engine.create(chain(1))
    step = (await engine.steps(task))["s1"].step_uuid
    async with rival(engine) as other:
        await other.lock("workflow_steps", step)
        claiming = await start_blocked(engine, engine.claim())
        assert await disconnect(engine, query_like="%claim_steps%") == 1
        with pytest.raises(psycopg.OperationalError):
            await claiming
    (claimed,) = await engine.claim()
    assert claimed.attempt == 1


# The one path: a claim drops the messages of steps that moved on


async def test_a_claim_drops_messages_of_steps_that_moved_on(any_engine: Engine) -> None:
    task = await any_engine.create(diamond())
    await duplicate_messages(any_engine, WORKERS, copies=2)
    (start,) = await any_engine.claim()  # with its duplicates
    assert await any_engine.messages(WORKERS) == 0

    message = {"v": 1, "task_uuid": str(task), "step_uuid": str(start.step_uuid)}
    await send_by_hand(any_engine, WORKERS, message)  # in progress
    await send_by_hand(any_engine, WORKERS, message | {"step_uuid": str(uuid7())})  # unknown step
    await send_by_hand(any_engine, WORKERS, message | {"task_uuid": str(uuid7())})  # unknown task
    assert await any_engine.claim() == []
    assert await any_engine.messages(WORKERS) == 0
    assert (await any_engine.steps(task))["start"].attempts == 1

    await any_engine.succeed(start)
    await any_engine.process()
    await any_engine.run(task, rounds=10)
    await send_by_hand(any_engine, WORKERS, message)  # complete
    assert await any_engine.claim() == []
    assert await any_engine.messages(WORKERS) == 0
    await assert_history_is_whole(any_engine, task)


async def test_a_group_of_dropped_messages_does_not_hide_the_step_behind_it(engine: Engine) -> None:
    task = await engine.create(chain(1))
    done = (await engine.steps(task))["s1"].step_uuid
    await engine.run(task)
    for _ in range(10):
        await send_by_hand(engine, WORKERS, {"v": 1, "task_uuid": str(task), "step_uuid": str(done)})
    await engine.create(chain(1))
    claimed: list[ClaimedStep] = []
    for _ in range(11):
        claimed += await engine.claim(1)
    assert len(claimed) == 1


async def test_a_message_of_an_unknown_task_does_not_stop_the_results(
    engine: Engine,
) -> None:
    for queue in (RESULTS_QUEUE, JUDGEMENTS_QUEUE):
        await send_by_hand(engine, queue, {"v": 1, "task_uuid": str(uuid7()), "step_uuid": str(uuid7())})
        await send_by_hand(engine, queue, {"v": 1})
    tasks = [await engine.create(chain(1)) for _ in range(2)]
    first, second = await engine.claim()
    await engine.succeed(first)
    await engine.fail(second, retryable=False)
    await engine.process()
    assert {await engine.state(task) for task in tasks} == {"complete", "blocked_by_failures"}


# "enqueued" and "message exists" are atomic


async def test_a_task_and_its_messages_appear_together(any_engine: Engine) -> None:
    document = chain(2) | {"identity_strategy": "strict"}
    template = await any_engine.register(document)
    await any_engine.request(template, {"n": 0})  # so that queue and plan exist
    async with rival(any_engine) as other:
        # The create waits for the commit of an equal identity, with its own transaction open.
        await other.lock("tasks", (await any_engine.sql("SELECT task_uuid FROM tasker.tasks"))[0][0])
        await other.sql(f"LOCK TABLE pgmq.q_{WORKERS} IN SHARE MODE")  # it has inserted all but its messages
        creating = await start_blocked(any_engine, any_engine.request(template, {"n": 1}))
        ((tasks, steps),) = await any_engine.sql(
            "SELECT (SELECT count(*) FROM tasker.tasks), (SELECT count(*) FROM tasker.workflow_steps)"
        )
        assert (tasks, steps, await any_engine.messages(WORKERS)) == (1, 2, 1)
        await other.rollback()
    created = (await creating).task
    assert await any_engine.states(created.task_uuid) == {"s1": "enqueued", "s2": "pending"}
    assert await any_engine.messages(WORKERS) == 2


_CREATED = ("tasks", "workflow_steps", "workflow_step_edges", "task_transitions", "workflow_step_transitions",
            "task_identities")  # fmt: skip


async def _created_rows(engine: Engine) -> dict[str, int]:
    return {table: (await engine.sql(f"SELECT count(*) FROM tasker.{table}"))[0][0] for table in _CREATED}


async def test_a_create_that_cannot_send_leaves_nothing(any_engine: Engine) -> None:
    template = await any_engine.register(chain(2))
    await refuse(any_engine, f"pgmq.q_{WORKERS}", "true", last=1)
    with pytest.raises(psycopg.errors.RaiseException):
        await any_engine.request(template)
    assert set((await _created_rows(any_engine)).values()) == {0}
    await any_engine.request(template)
    assert (await _created_rows(any_engine))["tasks"] == 1


async def test_a_create_that_is_killed_leaves_nothing(
    engine: Engine,
) -> None:
    template = await engine.register(chain(2) | {"identity_strategy": "strict"})
    async with rival(engine) as other:
        await other.sql(f"LOCK TABLE pgmq.q_{WORKERS} IN SHARE MODE")
        creating = await start_blocked(engine, engine.request(template))
        assert await disconnect(engine, query_like="%create_tasks%") == 1
        with pytest.raises(Exception, match="does not answer"):
            await creating
    await reconnect(engine)
    assert set((await _created_rows(engine)).values()) == {0}
    created = (await engine.request(template)).task  # the retry creates once
    assert await engine.states(created.task_uuid) == {"s1": "enqueued", "s2": "pending"}


async def test_processing_that_cannot_send_changes_nothing(any_engine: Engine) -> None:
    task = await any_engine.create(diamond())
    await any_engine.succeed(*await any_engine.claim())
    await refuse(any_engine, f"pgmq.q_{WORKERS}", "true", last=1)
    with pytest.raises(psycopg.errors.RaiseException):
        await any_engine.orchestration.process_results(10)
    assert await any_engine.states(task) == {
        "start": "enqueued_for_orchestration", "left": "pending", "right": "pending", "end": "pending",
    }  # fmt: skip
    assert (await any_engine.messages(RESULTS_QUEUE), await any_engine.messages(WORKERS)) == (1, 0)
    await any_engine.orchestration.process_results(10)
    assert await any_engine.messages(WORKERS) == 2
    await assert_nothing_drifted(any_engine)


async def test_a_namespaces_queue_is_made_once_whoever_needs_it_first(engine: Engine) -> None:
    ensure = "SELECT tasker.ensure_queue_v1('worker_fresh_queue')"
    async with rival(engine) as other:
        await other.sql(ensure)
        ensuring = await start_blocked(engine, engine.sql(ensure))
        await other.commit()
    await ensuring
    assert await engine.messages("worker_fresh_queue") == 0


# a worker that lacks a handler puts the message back with a growing delay


async def _delay(engine: Engine) -> float:
    """Return in how many seconds the one message becomes visible."""
    ((due,),) = await engine.sql(f"SELECT vt FROM pgmq.q_{WORKERS}")
    return float((due - await now(engine)).total_seconds())


async def test_a_worker_without_the_handler_puts_the_step_back_for_longer_and_longer(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(chain(1))
    await any_engine.register_worker(
        hostname="elsewhere", version="1", namespaces=["test"], handlers=["work"], slots=1
    )
    await any_engine.freeze_clock()
    for expected in (1, 2, 4, 8, 16, 30, 30):
        assert await any_engine.claim(handlers=["other"]) == []
        assert await _delay(any_engine) == expected
        await any_engine.move_clock(expected - 0.001)
        assert await any_engine.claim(handlers=["work"]) == []  # out of sight for everybody
        await any_engine.beat(slots_in_use=0)
        await any_engine.move_clock(0.001)
    assert await any_engine.states(task) == {"s1": "enqueued"}
    (step,) = await any_engine.claim()
    assert step.attempt == 1  # waiting for the right worker costs no attempt


async def test_a_worker_claims_what_it_can_and_puts_back_the_rest(engine: Engine) -> None:
    document = chain(2)
    document["steps"][1] |= {"dependencies": [], "handler": "rare"}
    task = await engine.create(document)
    assert [step.name for step in await engine.claim()] == ["s1"]
    assert await engine.states(task) == {"s1": "in_progress", "s2": "enqueued"}
    await engine.move_clock(1)
    assert [step.name for step in await engine.claim(handlers=["rare"])] == ["s2"]


async def _refuse_for(engine: Engine, seconds: int) -> None:
    """Have a worker without the handler meet the message until it has been refused for so long."""
    await engine.freeze_clock()
    passed = 0.0
    while passed < seconds:
        assert await engine.claim(handlers=["other"]) == []
        wait = await _delay(engine)
        await engine.move_clock(wait)
        await engine.beat(slots_in_use=0)
        passed += wait


async def _offer(engine: Engine, **more: Any) -> None:
    offer: dict[str, Any] = {
        "hostname": "elsewhere",
        "version": "1",
        "namespaces": ["test"],
        "handlers": ["work"],
        "slots": 1,
    }
    await engine.register_worker(**(offer | more))


async def test_a_step_that_no_live_worker_can_run_is_claimed_to_fail_after_the_limit(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(chain(1))
    await _refuse_for(any_engine, 60)
    (step,) = await any_engine.claim(handlers=["other"])
    assert step.handler == "work"  # the worker reports handler_not_found
    assert (await any_engine.steps(task))["s1"].attempts == 1


async def test_a_step_that_a_live_worker_can_run_is_put_back_beyond_the_limit(any_engine: Engine) -> None:
    await any_engine.create(chain(1))
    await _offer(any_engine)
    await _refuse_for(any_engine, 200)
    assert await any_engine.claim(handlers=["other"]) == []
    await any_engine.move_clock(30)
    assert len(await any_engine.claim()) == 1


async def test_a_worker_that_appears_at_the_last_moment_saves_the_step(engine: Engine) -> None:
    await engine.create(chain(1))
    await _refuse_for(engine, 60)
    await _offer(engine)
    assert await engine.claim(handlers=["other"]) == []
    await engine.move_clock(30)
    assert len(await engine.claim()) == 1


@pytest.mark.parametrize(
    "other_worker",
    [{"namespaces": ["elsewhere"]}, {"handlers": ["another"]}],
    ids=["serves_another_namespace", "has_another_handler"],
)
async def test_a_worker_that_could_not_run_the_step_either_does_not_count(
    engine: Engine, other_worker: dict[str, Any]
) -> None:
    await engine.create(chain(1))
    await _offer(engine, **other_worker)
    await _refuse_for(engine, 60)
    assert len(await engine.claim(handlers=["other"])) == 1


async def test_the_limit_counts_from_when_a_live_worker_offered_the_handler_last(engine: Engine) -> None:
    await engine.create(chain(1))
    await _offer(engine)
    await _refuse_for(engine, 100)
    await engine.retire_worker()  # a rolling deploy: the next one is about to start
    refusals = f"SELECT message ->> 'refusals' FROM pgmq.q_{WORKERS}"
    ((before,),) = await engine.sql(refusals)
    assert await engine.claim(handlers=["other"]) == []
    assert await engine.sql(refusals) == [(str(int(before) + 1),)]


@pytest.mark.parametrize("gone", ["stopped", "silent"])
async def test_a_worker_that_is_gone_does_not_offer_its_handlers(engine: Engine, gone: str) -> None:
    await engine.create(chain(1))
    await _offer(engine)
    await _refuse_for(engine, 61)
    if gone == "stopped":
        await engine.retire_worker()
    else:
        await engine.database.execute(
            "UPDATE tasker.workers SET heartbeat_at = tasker.now() - interval '91 s'"
        )
    for _ in range(6):  # the limit counts from when it was offered last
        if step := await engine.claim(handlers=["other"]):
            break
        await engine.move_clock(30)
    assert len(step) == 1


# what PostgreSQL cannot store becomes a result_serialization_error


@asynccontextmanager
async def _submitter(engine: Engine, claims: OpenClaims) -> AsyncIterator[ResultSubmitter]:
    submitter = ResultSubmitter(engine.worker, claims, WorkerIdentity("worker_test"))
    running = asyncio.create_task(submitter.run())
    try:
        yield submitter
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def _sealed(step: ClaimedStep, value: object) -> SealedResult:
    result = StepExecutionResult(str(step.step_uuid), True, ResultStatus.COMPLETED, value)
    return SealedResult(result, json.dumps(result.to_json()))


async def _error_types(engine: Engine) -> dict[UUID, str | None]:
    rows = await engine.sql("SELECT step_uuid, error ->> 'error_type' FROM tasker.step_results")
    return {step_uuid: error_type for step_uuid, error_type in rows}  # noqa: C416 - typed


async def test_a_result_that_cannot_be_stored_fails_its_step_and_no_other(any_engine: Engine) -> None:
    tasks = {await any_engine.create(chain(1)): number for number in range(3)}
    steps = sorted(await any_engine.claim(), key=lambda step: tasks[step.task_uuid])
    claims = OpenClaims()
    async with _submitter(any_engine, claims) as submitter:
        for step, result in zip(steps, ({"n": 1}, {"text": "a\x00b"}, {"n": 3}), strict=True):
            claims.add(step)
            submitter.put(step, _sealed(step, result))
        async with asyncio.timeout(20):
            await submitter.flush()
        assert len(claims) == 0
    assert await _error_types(any_engine) == {
        steps[0].step_uuid: None, steps[1].step_uuid: "result_serialization_error", steps[2].step_uuid: None,
    }  # fmt: skip
    await any_engine.process()
    assert [await any_engine.state(task) for task in tasks] == ["complete", "blocked_by_failures", "complete"]


async def test_a_step_that_can_store_no_result_at_all_is_left_to_the_sweeper(engine: Engine) -> None:
    for _ in range(2):
        await engine.create(chain(1))
    hopeless, fine = await engine.claim()
    await refuse(engine, "tasker.step_results", f"NEW.step_uuid = '{hopeless.step_uuid}'", event="INSERT")
    claims = OpenClaims()
    async with _submitter(engine, claims) as submitter:
        for step in (hopeless, fine):
            claims.add(step)
            submitter.put(step, _sealed(step, {}))
        async with asyncio.timeout(20):
            await submitter.flush()
        assert len(claims) == 0
    assert await _error_types(engine) == {fine.step_uuid: None}


async def test_results_wait_while_the_database_is_away(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.succeed()  # so that the session which submits is open
    async with rival(engine) as other, _submitter(engine, OpenClaims()) as submitter:
        await other.lock("workflow_steps", step.step_uuid)
        submitter.put(step, _sealed(step, {"n": 1}))

        async def waiting() -> bool:
            return await sessions_waiting(engine) > 0

        await until(waiting, "the submit does not wait")
        assert await disconnect(engine, query_like="%submit_results%") == 1
        await other.rollback()
        async with asyncio.timeout(20):
            await submitter.flush()
    await engine.process()
    assert await engine.state(task) == "complete"
