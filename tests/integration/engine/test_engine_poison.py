"""Messages that no retry can help, and failures that are none of a message's fault."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import psycopg
import pytest

from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE, channel, worker_queue
from tasker.orchestration.engine.judge import Judge
from tasker.orchestration.loops.judgements import JudgementLoop
from tasker.persistence.failures import is_transient
from tasker.persistence.listener import Wakeup
from tasker.persistence.operations.judge import StepVerdict, SubmittedStep
from tasker.worker import step_handler
from tasker.worker.handlers.attempts import WorkerIdentity
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.runtime.claims import OpenClaims
from tasker.worker.runtime.consumer import StepConsumer
from tasker.worker.runtime.revisions import known_revisions
from tasker.worker.runtime.running import StepRunner
from tasker.worker.runtime.slots import Slots
from tasker.worker.runtime.submitter import ResultSubmitter
from tests.support.engine import NAMESPACE, Engine, chain, graph
from tests.support.faults import poison, refuse, send_by_hand
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    disconnect,
    rival,
    sessions_waiting,
    start_blocked,
    until,
)

pytestmark = pytest.mark.both_ways

WORKERS = worker_queue(NAMESPACE)


async def _bad_among_good(engine: Engine) -> tuple[UUID, list[UUID]]:
    """Create a task whose step is named `bad` between two of good ones."""
    first = await engine.create(chain(2))
    bad = await engine.create(graph({"bad": [], "after": ["bad"]}) | {"name": "bad"})
    return bad, [first, await engine.create(chain(2))]


async def _reason(engine: Engine, task: UUID) -> str:
    ((reason,),) = await engine.sql(
        "SELECT metadata ->> 'reason' FROM tasker.workflow_step_transitions "
        "WHERE task_uuid = %s AND to_state = 'error'",
        task,
    )
    return str(reason)


# the group is tried one by one; the poison is recorded and its step moves to `error`


@pytest.mark.long_way
async def test_a_poisonous_result_is_found_and_its_task_settled(any_engine: Engine) -> None:
    bad, good = await _bad_among_good(any_engine)
    await any_engine.succeed(*await any_engine.claim())
    await refuse(any_engine, "tasker.workflow_steps", "NEW.name = 'bad' AND NEW.state = 'complete'")
    assert await any_engine.results.tick() == 0

    ((queue, step, error),) = await poison(any_engine)
    assert (queue, step) == (RESULTS_QUEUE, "bad")
    assert "refused by the test" in error
    assert await any_engine.messages(RESULTS_QUEUE) == 0
    assert await any_engine.states(bad) == {"bad": "error", "after": "pending"}
    assert await any_engine.state(bad) == "blocked_by_failures"
    assert (await _reason(any_engine, bad)).startswith("result_processing_error")
    for task in good:
        assert await any_engine.states(task) == {"s1": "complete", "s2": "enqueued"}
    for task in good:
        await any_engine.run(task)
    await assert_history_is_whole(any_engine)
    await assert_nothing_drifted(any_engine)


async def test_a_failure_that_cannot_be_judged_is_found_and_its_task_settled(any_engine: Engine) -> None:
    bad, good = await _bad_among_good(any_engine)
    await any_engine.fail(*await any_engine.claim())
    await refuse(any_engine, "tasker.workflow_steps", "NEW.name = 'bad' AND NEW.state = 'waiting_for_retry'")
    assert await any_engine.judgements.tick() == 0

    assert [(queue, step) for queue, step, _ in await poison(any_engine)] == [(JUDGEMENTS_QUEUE, "bad")]
    assert await any_engine.messages(JUDGEMENTS_QUEUE) == 0
    assert (await any_engine.states(bad))["bad"] == "error"
    assert await any_engine.state(bad) == "blocked_by_failures"
    assert (await _reason(any_engine, bad)).startswith("result_processing_error")
    for task in good:
        assert (await any_engine.states(task))["s1"] == "waiting_for_retry"
    await assert_nothing_drifted(any_engine)


class _Confused(Judge):
    """Fails over the step `bad`, before anything reaches the database."""

    def judge(self, step: SubmittedStep) -> StepVerdict:
        if step.name == "bad":
            raise ValueError("cannot make head or tail of it")
        return super().judge(step)


async def test_a_failure_that_the_domain_cannot_judge_is_poison_too(engine: Engine) -> None:
    bad, good = await _bad_among_good(engine)
    await engine.fail(*await engine.claim())
    await JudgementLoop(engine.orchestration, _Confused(lambda: 0.0), engine.expander).tick()
    ((queue, step, error),) = await poison(engine)
    assert (queue, step) == (JUDGEMENTS_QUEUE, "bad")
    assert error == "ValueError: cannot make head or tail of it"
    assert await engine.state(bad) == "blocked_by_failures"
    for task in good:
        assert (await engine.states(task))["s1"] == "waiting_for_retry"


@pytest.mark.long_way
async def test_the_operator_finds_everything_about_the_poison(engine: Engine) -> None:
    bad, _ = await _bad_among_good(engine)
    await engine.succeed(*await engine.claim())
    await refuse(engine, "tasker.workflow_steps", "NEW.name = 'bad' AND NEW.state = 'complete'")
    await engine.results.tick()
    ((message, task, step, recorded),) = await engine.sql(
        "SELECT message, task_uuid, step_uuid, recorded_at <= tasker.now() FROM tasker.poison_messages"
    )
    bad_step = (await engine.steps(bad))["bad"].step_uuid
    assert message == {"v": 1, "task_uuid": str(bad), "step_uuid": str(bad_step)}
    assert (task, step, recorded) == (bad, bad_step, True)


@pytest.mark.long_way
async def test_two_orchestrators_that_find_the_same_poison_record_it_once(engine: Engine) -> None:
    bad, _ = await _bad_among_good(engine)
    await engine.succeed(*await engine.claim())
    step = (await engine.steps(bad))["bad"].step_uuid
    ((msg_id,),) = await engine.sql(
        f"SELECT msg_id FROM pgmq.q_{RESULTS_QUEUE} WHERE message ->> 'step_uuid' = %s", str(step)
    )
    async with rival(engine) as other:
        assert await other.sql("SELECT tasker.record_poison_v1(%s, %s, 'it is')", RESULTS_QUEUE, msg_id) == [
            (True,)
        ]
        recording = await start_blocked(
            engine, engine.orchestration.record_poison(RESULTS_QUEUE, msg_id, "it is")
        )
        await other.commit()
    assert await recording is False
    assert len(await poison(engine)) == 1
    await assert_history_is_whole(engine, bad)


async def test_poison_that_comes_after_its_step_has_moved_on_changes_nothing(engine: Engine) -> None:
    task = await engine.create(chain(1))
    step = (await engine.steps(task))["s1"].step_uuid
    await engine.run(task)
    late = await send_by_hand(engine, RESULTS_QUEUE, {"v": 1, "task_uuid": str(task), "step_uuid": str(step)})
    assert await engine.orchestration.record_poison(RESULTS_QUEUE, late, "it is")
    assert await engine.state(task) == "complete"
    await assert_history_is_whole(engine, task)


@pytest.mark.long_way
async def test_poison_that_cannot_even_be_recorded_does_not_keep_others_waiting(engine: Engine) -> None:
    bad, good = await _bad_among_good(engine)
    await engine.succeed(*await engine.claim())
    await refuse(engine, "tasker.workflow_steps", "NEW.name = 'bad'")  # not even into `error`
    for _ in range(2):
        with contextlib.suppress(psycopg.errors.RaiseException):
            await engine.results.tick()
    for task in good:
        assert await engine.states(task) == {"s1": "complete", "s2": "enqueued"}
    assert await engine.messages(RESULTS_QUEUE) == 1  # it stays, and is tried again
    assert await engine.states(bad) == {"bad": "enqueued_for_orchestration", "after": "pending"}


@pytest.mark.parametrize("queue", [RESULTS_QUEUE, JUDGEMENTS_QUEUE])
@pytest.mark.parametrize(
    "message",
    [
        {"task_uuid": "no uuid", "step_uuid": "no uuid"},
        {"task_uuid": 7, "step_uuid": []},
        {"v": 1, "task_uuid": "0197b7f2-7c1e-7d3a-9c55-3f0f6d1a2b4c"},
        {},
        [],
        "text",
        7,
        None,
    ],
    ids=str,
)
async def test_a_malformed_message_is_taken_out_and_stops_nothing(
    engine: Engine, queue: str, message: object
) -> None:
    await send_by_hand(engine, queue, message)
    tasks = [await engine.create(chain(1)) for _ in range(2)]
    first, second = await engine.claim()
    await engine.succeed(first)
    await engine.fail(second, retryable=False)
    for _ in range(2):
        await engine.results.tick()
        await engine.judgements.tick()
    assert (await engine.messages(RESULTS_QUEUE), await engine.messages(JUDGEMENTS_QUEUE)) == (0, 0)
    assert {await engine.state(task) for task in tasks} == {"complete", "blocked_by_failures"}
    assert [queue for queue, _, _ in await poison(engine)] == [queue]


async def test_what_a_garbled_message_said_is_kept(engine: Engine) -> None:
    task = await engine.create(chain(1))
    garbled = {"v": 1, "task_uuid": str(task), "step_uuid": "s1"}
    for queue, tick in ((RESULTS_QUEUE, engine.results.tick), (JUDGEMENTS_QUEUE, engine.judgements.tick)):
        await send_by_hand(engine, queue, garbled)
        await tick()
    rows = await engine.sql(
        "SELECT queue, message, task_uuid, step_uuid FROM tasker.poison_messages ORDER BY queue"
    )
    assert rows == [(queue, garbled, task, None) for queue in (JUDGEMENTS_QUEUE, RESULTS_QUEUE)]
    assert await engine.states(task) == {"s1": "enqueued"}  # nothing is known against it


@pytest.mark.parametrize("queue", [RESULTS_QUEUE, JUDGEMENTS_QUEUE])
async def test_a_message_that_names_an_unknown_step_is_dropped(engine: Engine, queue: str) -> None:
    task = await engine.create(chain(1))  # unknown step, drop
    await send_by_hand(engine, queue, {"v": 1, "task_uuid": str(task), "step_uuid": str(uuid4())})
    await engine.results.tick()
    await engine.judgements.tick()
    assert await engine.messages(queue) == 0
    assert await poison(engine) == []
    await engine.run(task)


# a failure of the database is retried and is never poison

_TRANSIENT = ["08006", "40001", "40P01", "53200", "53300", "55P03", "57014", "57P01"]


@pytest.mark.long_way
@pytest.mark.parametrize("sqlstate", _TRANSIENT)
async def test_a_failure_of_the_database_is_no_poison(engine: Engine, sqlstate: str) -> None:
    tasks = [await engine.create(chain(1)) for _ in range(2)]
    succeeded, failed = await engine.claim()
    await engine.succeed(succeeded)
    await engine.fail(failed, retryable=False)
    # For longer than a call retries what other calls may have caused.
    await refuse(engine, "tasker.workflow_steps", "NEW.state IN ('complete', 'error')", sqlstate=sqlstate)
    for tick in (engine.results.tick, engine.judgements.tick):
        with pytest.raises(psycopg.Error) as raised:
            await tick()
        assert is_transient(raised.value)
    assert await poison(engine) == []
    assert (await engine.messages(RESULTS_QUEUE), await engine.messages(JUDGEMENTS_QUEUE)) == (1, 1)

    await engine.database.execute("DROP TRIGGER refuse_0 ON tasker.workflow_steps")
    await engine.process()
    assert {await engine.state(task) for task in tasks} == {"complete", "blocked_by_failures"}


@pytest.mark.long_way
async def test_a_failure_of_the_database_during_the_search_is_no_poison_either(engine: Engine) -> None:
    bad, good = await _bad_among_good(engine)
    await engine.succeed(*await engine.claim())
    # The group fails for good, then, tried one by one, the first of them meets a database in trouble.
    await refuse(engine, "tasker.workflow_steps", "NEW.state = 'complete'", last=1)
    await refuse(engine, "tasker.workflow_steps", "NEW.state = 'complete'", sqlstate="53200", last=1)
    with pytest.raises(psycopg.errors.OutOfMemory):
        await engine.results.tick()
    assert await poison(engine) == []
    await engine.process()
    for task in (bad, *good):
        assert "complete" in (await engine.states(task)).values()


@pytest.mark.long_way
@pytest.mark.parametrize("loop", ["results", "judgements"])
async def test_a_killed_backend_is_no_poison(engine: Engine, loop: str) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await (engine.succeed(step) if loop == "results" else engine.fail(step, retryable=False))
    tick = engine.results.tick if loop == "results" else engine.judgements.tick
    query = "%process_results%" if loop == "results" else "%apply_verdicts%"
    async with rival(engine) as other:
        await other.lock("workflow_steps", step.step_uuid)
        ticking = await start_blocked(engine, tick())
        assert await disconnect(engine, query_like=query) == 1
        with pytest.raises(psycopg.OperationalError):
            await ticking
    assert await poison(engine) == []
    await tick()
    assert await engine.state(task) == ("complete" if loop == "results" else "blocked_by_failures")
    await assert_history_is_whole(engine, task)


@pytest.mark.long_way
@pytest.mark.own_database
async def test_a_statement_timeout_is_no_poison(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.succeed(step)
    ((name,),) = await engine.sql("SELECT current_database()")
    await engine.database.execute(f"ALTER DATABASE {name} SET statement_timeout = '50ms'")
    await engine.disconnect()  # the setting is for new sessions
    async with rival(engine) as other:
        await other.sql("SET LOCAL statement_timeout = 0")
        await other.lock("workflow_steps", step.step_uuid)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await engine.results.tick()
    assert await poison(engine) == []
    assert await engine.messages(RESULTS_QUEUE) == 1
    await engine.database.execute(f"ALTER DATABASE {name} RESET statement_timeout")
    await engine.disconnect()
    await engine.process()
    assert await engine.state(task) == "complete"


# The same for claims, which a worker makes


@asynccontextmanager
async def _consumer(engine: Engine) -> AsyncIterator[None]:
    """A worker's claiming, with a handler that always succeeds."""

    @step_handler("work")
    async def work() -> dict[str, int]:
        return {"n": 1}

    registry = HandlerRegistry()
    registry.register(work)
    identity = WorkerIdentity("worker_test")
    claims, slots = OpenClaims(), Slots(4)
    submitter = ResultSubmitter(engine.worker, claims, identity)
    runner = StepRunner(
        engine.worker_requests, registry, known_revisions(engine.database), claims, submitter,
        slots=slots, handler_timeout_seconds=10, result_validation="warn", identity=identity,
    )  # fmt: skip
    consumer = StepConsumer(
        engine.worker, registry, runner, submitter,
        namespaces=[NAMESPACE], slots=slots, poll_seconds=0.01, wakeup=Wakeup(),
    )  # fmt: skip
    assert channel(WORKERS) in consumer.channels
    running = [asyncio.create_task(consumer.run()), asyncio.create_task(submitter.run())]
    try:
        yield
        await consumer.drain()
        await running[0]
        await submitter.flush()
    finally:
        for task in running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        runner.close()


async def test_a_step_that_cannot_be_claimed_is_found_and_its_task_settled(engine: Engine) -> None:
    await refuse(engine, "tasker.workflow_steps", "NEW.name = 'bad' AND NEW.state = 'in_progress'")
    bad, good = await _bad_among_good(engine)
    async with _consumer(engine):

        async def settled() -> bool:
            await engine.process()
            return await engine.state(bad) == "blocked_by_failures" and {
                await engine.state(task) for task in good
            } == {"complete"}

        await until(settled, "the tasks are not settled")
    assert [(queue, step) for queue, step, _ in await poison(engine)] == [(WORKERS, "bad")]
    assert (await _reason(engine, bad)).startswith("result_processing_error")
    await assert_history_is_whole(engine)
    await assert_nothing_drifted(engine)


async def test_poison_that_cannot_even_be_recorded_keeps_no_other_step_from_a_worker(engine: Engine) -> None:
    bad, good = await _bad_among_good(engine)
    await refuse(engine, "tasker.workflow_steps", "NEW.name = 'bad'")  # not even into `error`
    async with _consumer(engine):

        async def complete() -> bool:
            await engine.process()
            return {await engine.state(task) for task in good} == {"complete"}

        await until(complete, "the steps behind the poison do not run")
    assert await poison(engine) == []
    assert await engine.messages(WORKERS) == 1  # it stays, and is tried again
    assert await engine.states(bad) == {"bad": "enqueued", "after": "pending"}


async def test_garbled_messages_do_not_stop_a_worker(engine: Engine) -> None:
    await engine.register(chain(1))
    for n in range(9):  # more than it has slots
        garbled = {"v": 1, "task_uuid": f"garbled {n}", "step_uuid": ""}
        await send_by_hand(engine, WORKERS, garbled if n % 2 else [n])
    task = await engine.create(chain(1))
    async with _consumer(engine):

        async def complete() -> bool:
            await engine.process()
            return await engine.state(task) == "complete"

        await until(complete, "the step behind the garbled messages does not run")
    assert len(await poison(engine)) == 9
    assert await engine.messages(WORKERS) == 0


async def test_a_claim_that_a_kill_interrupts_is_no_poison(engine: Engine) -> None:
    task = await engine.create(chain(1))
    step = (await engine.steps(task))["s1"].step_uuid
    async with rival(engine) as other:
        await other.lock("workflow_steps", step)
        async with _consumer(engine):

            async def claiming() -> bool:
                return await sessions_waiting(engine) > 0

            await until(claiming, "the worker does not claim")
            assert await disconnect(engine, query_like="%claim_steps%") == 1
            await other.rollback()

            async def complete() -> bool:
                await engine.process()
                return await engine.state(task) == "complete"

            await until(complete, "the step does not run")
    assert await poison(engine) == []
    assert (await engine.steps(task))["s1"].attempts == 1
