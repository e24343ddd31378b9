"""Who locks what, in which order, and who passes by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest

from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE
from tests.support.engine import Engine, chain, diamond
from tests.support.rivals import (
    CLAIM,
    assert_history_is_whole,
    assert_nothing_drifted,
    at_once,
    deadlocks,
    duplicate_messages,
    now,
    rival,
    start,
    start_blocked,
    task_like_others,
)

pytestmark = pytest.mark.both_ways

WORKERS = "worker_test_queue"
BEGINNING = UUID(int=0)
Returned = TypeVar("Returned")
NO_GRACE = timedelta(0)


# evaluating takes the task's row FOR NO KEY UPDATE, since FOR UPDATE conflicts with foreign keys


async def _process(engine: Engine, task: UUID) -> None:
    await engine.succeed(*await engine.claim())
    processed = await engine.orchestration.process_results(10)
    assert (processed.handled, processed.delayed) == (1, 0)
    assert await engine.states(task) == {"s1": "complete", "s2": "enqueued"}


async def _judge(engine: Engine, task: UUID) -> None:
    await engine.fail(*await engine.claim())
    await engine.judgements.tick()
    assert (await engine.states(task))["s1"] == "waiting_for_retry"


async def _wake(engine: Engine, task: UUID) -> None:
    await engine.fail(*await engine.claim())
    await engine.process()
    await engine.move_clock(10)
    assert (await engine.fire_timers(10)).woken == 1
    assert (await engine.states(task))["s1"] == "enqueued"


async def _reconcile(engine: Engine, task: UUID) -> None:
    assert [each.task_uuid for each in await engine.reconcile(BEGINNING, 10, NO_GRACE)] == [task]


async def _poison(engine: Engine, task: UUID) -> None:
    await engine.succeed(*await engine.claim())
    (msg_id,) = await engine.orchestration.visible(RESULTS_QUEUE, 10)
    assert await engine.orchestration.record_poison(RESULTS_QUEUE, msg_id, "it is")
    assert (await engine.states(task))["s1"] == "error"


@pytest.mark.long_way
@pytest.mark.parametrize("evaluate", [_process, _judge, _wake, _reconcile, _poison])
async def test_a_foreign_key_check_does_not_keep_a_task_from_being_evaluated(
    engine: Engine, evaluate: Callable[[Engine, UUID], Awaitable[None]]
) -> None:
    task = await engine.create(chain(2))
    steps = await engine.steps(task)
    async with rival(engine) as inserting:  # what an insert of a row that references them takes
        await inserting.lock("tasks", task, "FOR KEY SHARE")
        for step in steps.values():
            await inserting.lock("workflow_steps", step.step_uuid, "FOR KEY SHARE")
        await at_once(evaluate(engine, task))


async def test_an_evaluation_lets_foreign_key_checks_pass(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2))
    await any_engine.succeed(*await any_engine.claim())
    async with rival(any_engine) as evaluating, rival(any_engine) as inserting:
        await evaluating.sql("SELECT * FROM tasker.process_results_v1(10, 0, NULL)")
        await at_once(inserting.lock("tasks", task, "FOR KEY SHARE NOWAIT"))


# process skips tasks that are locked; one busy task never stalls a group


@pytest.mark.long_way
async def test_a_busy_task_does_not_stall_the_results_of_others(any_engine: Engine) -> None:
    busy, free = await any_engine.create(chain(2)), await any_engine.create(chain(2))
    await any_engine.succeed(*await any_engine.claim())
    async with rival(any_engine) as evaluating:
        await evaluating.lock("tasks", busy)
        before = await now(any_engine)
        processed = await at_once(any_engine.orchestration.process_results(10))
        after = await now(any_engine)

        assert (processed.handled, processed.delayed) == (1, 1)
        assert await any_engine.states(free) == {"s1": "complete", "s2": "enqueued"}
        assert await any_engine.states(busy) == {"s1": "enqueued_for_orchestration", "s2": "pending"}
        # Only the message whose task it got is gone; the other comes back 50 ms later.
        ((message, due),) = await any_engine.sql(f"SELECT message, vt FROM pgmq.q_{RESULTS_QUEUE}")
        assert message["task_uuid"] == str(busy)
        assert before <= due - timedelta(milliseconds=50) <= after

    await any_engine.move_clock(0.05)
    processed = await any_engine.orchestration.process_results(10)
    assert (processed.handled, processed.delayed) == (1, 0)
    assert await any_engine.states(busy) == {"s1": "complete", "s2": "enqueued"}
    assert await any_engine.messages(RESULTS_QUEUE) == 0


async def test_a_busy_task_does_not_stall_the_judgements_of_others(engine: Engine) -> None:
    busy, free = await engine.create(chain(1)), await engine.create(chain(1))
    await engine.fail(*await engine.claim())
    async with rival(engine) as evaluating:
        await evaluating.lock("tasks", busy)
        before = await now(engine)
        wait = await at_once(engine.judgements.tick())
        after = await now(engine)

        assert wait == pytest.approx(0.05)
        assert await engine.states(free) == {"s1": "waiting_for_retry"}
        assert await engine.states(busy) == {"s1": "enqueued_as_error_for_orchestration"}
        ((message, due),) = await engine.sql(f"SELECT message, vt FROM pgmq.q_{JUDGEMENTS_QUEUE}")
        assert message["task_uuid"] == str(busy)
        assert before <= due - timedelta(milliseconds=50) <= after

    await engine.move_clock(0.05)
    await engine.judgements.tick()
    assert await engine.states(busy) == {"s1": "waiting_for_retry"}
    assert await engine.messages(JUDGEMENTS_QUEUE) == 0


@pytest.mark.long_way
async def test_every_message_of_a_busy_task_waits_with_it(engine: Engine) -> None:
    task = await engine.create(diamond())
    await engine.succeed(*await engine.claim())
    await engine.process()
    await engine.succeed(*await engine.claim())  # left and right
    async with rival(engine) as evaluating:
        await evaluating.lock("tasks", task)
        processed = await at_once(engine.orchestration.process_results(10))
        assert (processed.handled, processed.delayed) == (0, 2)
    await engine.move_clock(0.05)
    await engine.run(task)


@pytest.mark.long_way
async def test_two_orchestrators_share_a_group_without_waiting(any_engine: Engine) -> None:
    first, second = [await any_engine.create(chain(1)) for _ in range(2)]
    await any_engine.succeed(*await any_engine.claim())
    async with rival(any_engine) as other:  # messages, too, are skipped while somebody has them locked
        ((handled, delayed),) = await other.sql(
            "SELECT handled, delayed FROM tasker.process_results_v1(1, 0, NULL)"
        )
        assert (handled, delayed) == (1, 0)
        processed = await at_once(any_engine.orchestration.process_results(10))
        assert (processed.handled, processed.delayed) == (1, 0)
        await other.commit()
    assert [await any_engine.state(task) for task in (first, second)] == ["complete", "complete"]


async def test_the_timer_and_the_reconciler_pass_by_a_busy_task(engine: Engine) -> None:
    busy, free = await engine.create(chain(1)), await engine.create(chain(1))
    await engine.fail(*await engine.claim())
    await engine.process()
    await engine.move_clock(10)
    async with rival(engine) as evaluating:
        await evaluating.lock("tasks", busy)
        assert (await at_once(engine.fire_timers(10))).woken == 1
        reconciled = await at_once(engine.reconcile(BEGINNING, 10, NO_GRACE))
        assert [each.task_uuid for each in reconciled] == [free]
        assert await engine.states(free) == {"s1": "enqueued"}
        assert await engine.states(busy) == {"s1": "waiting_for_retry"}
        # What is due but locked is no reason to ask again without a pause.
        assert await engine.timers.tick() > 0
    assert (await engine.fire_timers(10)).woken == 1


# heartbeat and sweepers use SKIP LOCKED


async def test_a_heartbeat_does_not_wait_for_a_lease_in_use(any_engine: Engine) -> None:
    for _ in range(2):
        await any_engine.create(chain(1))
    used, idle = await any_engine.claim()
    async with rival(any_engine) as submitting:
        await submitting.lock("step_leases", used.step_uuid, "FOR UPDATE")
        await any_engine.move_clock(20)
        assert await at_once(any_engine.renew([used.lease, idle.lease])) == set()
        rows = await any_engine.sql("SELECT step_uuid, expires_at FROM tasker.step_leases")
        expiries = {step_uuid: expires_at for step_uuid, expires_at in rows}  # noqa: C416 - typed
        assert expiries[idle.step_uuid] - expiries[used.step_uuid] >= timedelta(seconds=19)


@pytest.mark.parametrize("table", ["workflow_steps", "step_leases"])
async def test_the_sweeper_does_not_wait_for_a_step_in_use(any_engine: Engine, table: str) -> None:
    for _ in range(2):
        await any_engine.create(chain(1))
    used, idle = sorted(await any_engine.claim(), key=lambda step: step.step_uuid)
    await any_engine.move_clock(60)
    async with rival(any_engine) as submitting:
        await submitting.lock(table, used.step_uuid, "FOR UPDATE")
        assert await at_once(any_engine.sweep_leases(10)) == 1
        ((swept,),) = await any_engine.sql(
            "SELECT step_uuid FROM tasker.workflow_steps WHERE state = 'enqueued_as_error_for_orchestration'"
        )
        assert swept == idle.step_uuid
    assert await any_engine.sweep_leases(10) == 1


@pytest.mark.own_database
async def test_a_late_submit_and_the_sweeper_do_not_deadlock(database_url: str) -> None:
    async with Engine(database_url) as engine:
        for _ in range(2):
            await engine.create(chain(1))
        first, second = sorted(await engine.claim(), key=lambda step: step.step_uuid)
        await engine.move_clock(60)
        async with rival(engine) as other:
            # The sweeper meets a step that somebody has locked while the worker of the other one submits after all.
            await other.lock("workflow_steps", first.step_uuid)
            sweeping = await start(engine, engine.sweep_leases(10))
            submitting = await start(engine, engine.succeed(second))
            await other.rollback()
            lost, accepted = await sweeping, await submitting
        assert lost + len(accepted) + await engine.sweep_leases(10) == 2
        await engine.process()
        await assert_nothing_drifted(engine)
    assert await deadlocks(database_url) == 0


# a group of creates inserts identities sorted


@pytest.mark.own_database
async def test_groups_that_share_identities_in_opposite_order_do_not_deadlock(database_url: str) -> None:
    async with Engine(database_url) as one, Engine(database_url) as other:
        await one.create(chain(1))
        identities = [bytes([n] * 32) for n in (1, 2, 3)]
        forward = [await task_like_others(one, identity) for identity in identities]
        backward = [await task_like_others(one, identity) for identity in reversed(identities)]
        async with rival(one) as third:
            # Somebody has locked the middle one, so both groups stop half-way.
            await third.sql(
                "INSERT INTO tasker.task_identities VALUES (%s, gen_random_uuid(), tasker.now())",
                identities[1],
            )
            first = await start_blocked(one, one.create_tasks(forward))
            second = await start_blocked(one, other.create_tasks(backward))
            await third.rollback()
            created = (await first) | (await second)

        for ahead, behind in zip(forward, reversed(backward), strict=True):
            winners = [created[task.task_uuid] for task in (ahead, behind)]
            assert sorted(winner.existing_uuid is None for winner in winners) == [False, True]
            (loser,) = [each for each in winners if each.existing_uuid is not None]
            assert loser.existing_uuid in (ahead.task_uuid, behind.task_uuid)
        ((tasks, identified),) = await one.sql(
            "SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT FROM tasker.task_identities i "
            "WHERE i.task_uuid = t.task_uuid)) FROM tasker.tasks t"
        )
        assert (tasks, identified) == (4, 4)
    assert await deadlocks(database_url) == 0


async def test_a_create_waits_for_the_fate_of_an_equal_one(
    any_engine: Engine,
) -> None:
    await any_engine.create(chain(1))
    identity = bytes([7] * 32)
    task = await task_like_others(any_engine, identity)
    async with rival(any_engine) as other:
        await other.sql(
            "INSERT INTO tasker.task_identities VALUES (%s, gen_random_uuid(), tasker.now())", identity
        )
        creating = await start_blocked(any_engine, any_engine.create_tasks([task]))
        await other.rollback()
    assert (await creating)[task.task_uuid].existing_uuid is None
    assert await any_engine.state(task.task_uuid) == "steps_in_process"


# a statement that touches several steps first locks them in step_uuid order


@pytest.mark.own_database
async def test_steps_are_locked_in_order_whatever_the_order_of_their_messages(database_url: str) -> None:
    async with Engine(database_url) as one, Engine(database_url) as other:
        tasks = [await one.create(chain(1)) for _ in range(3)]
        pairs = sorted([((await one.steps(task))["s1"].step_uuid, task) for task in tasks])
        async with rival(one) as third:
            await third.lock("workflow_steps", pairs[1][0])
            # Two workers got the same steps, in opposite order.
            claims = [
                await start_blocked(
                    one,
                    engine.sql(CLAIM, [task for _, task in order], [step for step, _ in order]),
                )
                for engine, order in ((one, pairs), (other, pairs[::-1]))
            ]
            await third.rollback()
            claimed = [row[0] for claim in claims for row in await claim]
        assert sorted(claimed) == [step for step, _ in pairs]  # each exactly once
    assert await deadlocks(database_url) == 0


@pytest.mark.own_database
async def test_submits_of_the_same_steps_in_opposite_order_do_not_deadlock(database_url: str) -> None:
    async with Engine(database_url) as one, Engine(database_url) as other:
        for _ in range(3):
            await one.create(chain(1))
        steps = sorted(await one.claim(), key=lambda step: step.step_uuid)
        async with rival(one) as third:
            await third.lock("workflow_steps", steps[1].step_uuid)
            first = await start_blocked(one, one.succeed(*steps))
            second = await start_blocked(one, other.succeed(*reversed(steps)))
            await third.rollback()
            accepted = [await first, await second]
        assert sorted(map(len, accepted)) == [0, 3]  # the token is good once
        assert await one.messages(RESULTS_QUEUE) == 3
    assert await deadlocks(database_url) == 0


# 40P01 and 40001 are retried at the call


@pytest.mark.long_way
@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
async def test_conflicts_are_retried_at_the_call(engine: Engine, sqlstate: str) -> None:
    task = await engine.create(chain(1, retry={"max_attempts": 3}))
    await engine.database.execute("CREATE SEQUENCE public.strikes")
    await engine.database.execute(
        "CREATE FUNCTION public.strike() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF nextval('public.strikes') <= 2 THEN RAISE EXCEPTION 'struck' USING ERRCODE = '{sqlstate}'; END IF; "
        "RETURN NULL; END $$"
    )
    await engine.database.execute(
        "CREATE TRIGGER strike AFTER INSERT ON tasker.workflow_step_transitions "
        "FOR EACH STATEMENT EXECUTE FUNCTION public.strike()"
    )

    async def struck() -> bool:
        ((strikes,),) = await engine.sql("SELECT last_value FROM public.strikes")
        await engine.sql("SELECT setval('public.strikes', 1, false)")
        return int(strikes) >= 3

    (step,) = await engine.claim()
    assert await struck()
    assert await engine.fail(step) == {step.step_uuid}
    assert await struck()
    await engine.judgements.tick()
    assert await struck()
    assert await engine.states(task) == {"s1": "waiting_for_retry"}
    await engine.move_clock(10)
    await engine.timers.tick()
    assert await struck()
    await engine.succeed(*await engine.claim())
    await engine.sql("SELECT setval('public.strikes', 1, false)")
    assert (await engine.orchestration.process_results(10)).handled == 1
    assert await struck()
    await engine.create(chain(1))
    assert await struck()
    assert (await engine.steps(task))["s1"].attempts == 2
    await assert_history_is_whole(engine)
    await assert_nothing_drifted(engine)


# read a row's state after locking it


async def test_of_two_concurrent_claims_of_a_step_one_gets_it(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    step = (await any_engine.steps(task))["s1"].step_uuid
    await duplicate_messages(any_engine, WORKERS)
    async with rival(any_engine) as other:
        assert await other.claim(task, step) == [step]
        claiming = await start_blocked(any_engine, any_engine.claim())
        await other.commit()
    assert await claiming == []
    assert (await any_engine.steps(task))["s1"].attempts == 1
    assert await any_engine.messages(WORKERS) == 0
    await assert_history_is_whole(any_engine, task)


async def test_a_claim_that_waited_for_one_that_gave_up_gets_the_step(engine: Engine) -> None:
    task = await engine.create(chain(1))
    step = (await engine.steps(task))["s1"].step_uuid
    async with rival(engine) as other:
        await other.claim(task, step)
        claiming = await start_blocked(engine, engine.claim())
        await other.rollback()
    (claimed,) = await claiming
    assert claimed.attempt == 1
    ((token,),) = await engine.sql("SELECT lease_token FROM tasker.step_leases")
    assert token == claimed.lease_token


_CANCEL = (
    "WITH c AS (UPDATE tasker.workflow_steps SET state = 'cancelled', sort_key = sort_key + 1 WHERE step_uuid = %s "
    "RETURNING *), l AS (DELETE FROM tasker.step_leases USING c WHERE step_leases.step_uuid = c.step_uuid) "
    "INSERT INTO tasker.workflow_step_transitions (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, "
    "created_at) SELECT task_uuid, step_uuid, sort_key, %s, 'cancelled', attempts, tasker.now() FROM c"
)


async def test_a_step_cancelled_while_a_claim_waits_is_not_claimed(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    step = (await any_engine.steps(task))["s1"].step_uuid
    async with rival(any_engine) as cancelling:
        await cancelling.sql(_CANCEL, step, "enqueued")
        claiming = await start_blocked(any_engine, any_engine.claim())
        await cancelling.commit()
    assert await claiming == []
    view = (await any_engine.steps(task))["s1"]
    assert (view.state, view.attempts) == ("cancelled", 0)
    assert not await any_engine.sql("SELECT 1 FROM tasker.step_leases")
    await assert_history_is_whole(any_engine, task)


async def test_a_step_cancelled_while_its_submit_waits_keeps_no_result(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    async with rival(any_engine) as cancelling:
        await cancelling.sql(_CANCEL, step.step_uuid, "in_progress")
        submitting = await start_blocked(any_engine, any_engine.succeed(step))
        await cancelling.commit()
    assert await submitting == set()
    assert await any_engine.states(task) == {"s1": "cancelled"}
    assert not await any_engine.sql("SELECT 1 FROM tasker.step_results")
    assert await any_engine.messages(RESULTS_QUEUE) == 0
    await assert_history_is_whole(any_engine, task)


async def test_a_lease_alone_does_not_make_a_result_good(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    # Its lease is left behind.
    await engine.database.execute("UPDATE tasker.workflow_steps SET state = 'cancelled'")
    assert await engine.succeed(step) == set()
    assert await engine.states(task) == {"s1": "cancelled"}
    assert not await engine.sql("SELECT 1 FROM tasker.step_results")


@pytest.mark.long_way
async def test_a_step_cancelled_while_its_result_is_processed_stays_cancelled(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.succeed(step)
    async with rival(engine) as cancelling:
        await cancelling.sql(_CANCEL, step.step_uuid, "enqueued_for_orchestration")
        processing = await start_blocked(engine, engine.orchestration.process_results(10))
        await cancelling.commit()
    await processing
    assert await engine.states(task) == {"s1": "cancelled"}
    await assert_history_is_whole(engine, task)


async def test_a_step_cancelled_while_its_failure_is_judged_stays_cancelled(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.fail(step)
    async with rival(engine) as cancelling:
        await cancelling.sql(_CANCEL, step.step_uuid, "enqueued_as_error_for_orchestration")
        judging = await start_blocked(engine, engine.judgements.tick())
        await cancelling.commit()
    assert await judging > 0  # at the first try, without a search for poison
    assert await engine.states(task) == {"s1": "cancelled"}
    await assert_history_is_whole(engine, task)


@pytest.mark.long_way
async def test_a_child_cancelled_while_its_parent_completes_is_not_enqueued(engine: Engine) -> None:
    task = await engine.create(chain(2))
    await engine.succeed(*await engine.claim())
    child = (await engine.steps(task))["s2"].step_uuid
    async with rival(engine) as cancelling:
        await cancelling.sql(_CANCEL, child, "pending")
        processing = await start_blocked(engine, engine.orchestration.process_results(10))
        await cancelling.commit()
    assert (await processing).handled == 1
    assert await engine.states(task) == {"s1": "complete", "s2": "cancelled"}
    assert await engine.messages(WORKERS) == 0
    await assert_history_is_whole(engine, task)


async def test_a_step_cancelled_while_its_retry_is_due_is_not_enqueued(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.fail(*await engine.claim())
    await engine.process()
    await engine.move_clock(10)
    step = (await engine.steps(task))["s1"].step_uuid
    async with rival(engine) as cancelling:
        await cancelling.sql(_CANCEL, step, "waiting_for_retry")
        waking = await start_blocked(engine, engine.fire_timers(10))
        await cancelling.commit()
    await waking
    assert await engine.states(task) == {"s1": "cancelled"}
    assert await engine.messages(WORKERS) == 0
    await assert_history_is_whole(engine, task)


# What was locked is changed where it is by then, not where it was before the wait: any change of the row moves it.


async def _touched_while_waiting(engine: Engine, step: UUID, call: Coroutine[Any, Any, Returned]) -> Returned:
    async with rival(engine) as other:
        await other.sql("UPDATE tasker.workflow_steps SET checkpoint = '{}' WHERE step_uuid = %s", step)
        waiting = await start_blocked(engine, call)
        await other.commit()
    return await waiting


async def test_a_claim_finds_a_step_that_was_touched_meanwhile(engine: Engine) -> None:
    task = await engine.create(chain(1))
    step = (await engine.steps(task))["s1"].step_uuid
    assert len(await _touched_while_waiting(engine, step, engine.claim())) == 1
    assert await engine.states(task) == {"s1": "in_progress"}


async def test_a_submit_finds_a_step_that_was_touched_meanwhile(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    assert await _touched_while_waiting(engine, step.step_uuid, engine.succeed(step)) == {step.step_uuid}
    await engine.process()
    assert await engine.state(task) == "complete"


@pytest.mark.long_way
async def test_processing_finds_a_step_that_was_touched_meanwhile(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.succeed(step)
    await _touched_while_waiting(engine, step.step_uuid, engine.orchestration.process_results(10))
    assert await engine.state(task) == "complete"


async def test_judging_finds_a_step_that_was_touched_meanwhile(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.fail(step)
    await _touched_while_waiting(engine, step.step_uuid, engine.judgements.tick())
    assert await engine.states(task) == {"s1": "waiting_for_retry"}


@pytest.mark.long_way
async def test_an_advance_finds_a_child_that_was_touched_meanwhile(engine: Engine) -> None:
    task = await engine.create(chain(2))
    await engine.succeed(*await engine.claim())
    child = (await engine.steps(task))["s2"].step_uuid
    await _touched_while_waiting(engine, child, engine.orchestration.process_results(10))
    assert await engine.states(task) == {"s1": "complete", "s2": "enqueued"}


async def test_the_timer_finds_a_step_that_was_touched_meanwhile(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.fail(*await engine.claim())
    await engine.process()
    await engine.move_clock(10)
    step = (await engine.steps(task))["s1"].step_uuid
    await _touched_while_waiting(engine, step, engine.fire_timers(10))
    assert await engine.states(task) == {"s1": "enqueued"}


# tasker.now() is read after the locks


async def _waits_for_step(engine: Engine, step: UUID, call: Callable[[], Awaitable[object]]) -> None:
    """Have a call wait for a step while the clock moves on by 100 s."""
    async with rival(engine) as other:
        await other.lock("workflow_steps", step)

        async def waiting() -> object:
            return await call()

        task = await start_blocked(engine, waiting())
        await engine.move_clock(100)
        await other.rollback()
    await task


async def test_a_claim_reads_the_clock_after_it_has_the_step(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    step = (await any_engine.steps(task))["s1"].step_uuid
    started = await now(any_engine)
    await _waits_for_step(any_engine, step, any_engine.claim)
    ((attempted, expires, recorded),) = await any_engine.sql(
        "SELECT s.last_attempted_at, l.expires_at, t.created_at FROM tasker.workflow_steps s "
        "JOIN tasker.step_leases l USING (step_uuid) JOIN tasker.workflow_step_transitions t USING (step_uuid) "
        "WHERE t.to_state = 'in_progress'"
    )
    assert attempted == recorded >= started + timedelta(seconds=100)
    assert expires == attempted + timedelta(seconds=30)


async def test_a_submit_reads_the_clock_after_it_has_the_step(engine: Engine) -> None:
    await engine.create(chain(1))
    (step,) = await engine.claim()
    started = await now(engine)
    await _waits_for_step(engine, step.step_uuid, lambda: engine.succeed(step))
    ((recorded, moved),) = await engine.sql(
        "SELECT r.recorded_at, t.created_at FROM tasker.step_results r JOIN tasker.workflow_step_transitions t "
        "USING (step_uuid, sort_key)"
    )
    assert recorded == moved >= started + timedelta(seconds=100)


@pytest.mark.long_way
async def test_processing_reads_the_clock_after_it_has_the_step(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.succeed(step)
    started = await now(engine)
    await _waits_for_step(engine, step.step_uuid, lambda: engine.orchestration.process_results(10))
    ((completed, finished),) = await engine.sql(
        "SELECT s.completed_at, t.completed_at FROM tasker.tasks t JOIN tasker.workflow_steps s USING (task_uuid) "
        "WHERE t.task_uuid = %s", task,
    )  # fmt: skip
    assert finished >= completed >= started + timedelta(seconds=100)


async def test_a_backoff_counts_from_when_judging_has_the_step(engine: Engine) -> None:
    await engine.create(chain(1, retry={"backoff_base_ms": 1000}))
    (step,) = await engine.claim()
    await engine.fail(step)
    started = await now(engine)
    await _waits_for_step(engine, step.step_uuid, engine.judgements.tick)
    ((due, wake_at),) = await engine.sql(
        "SELECT s.next_retry_at, t.wake_at FROM tasker.workflow_steps s JOIN tasker.tasks t USING (task_uuid)"
    )
    assert due == wake_at >= started + timedelta(seconds=101)


@pytest.mark.long_way
async def test_a_child_is_enqueued_at_the_time_its_row_was_free(engine: Engine) -> None:
    task = await engine.create(chain(2))
    await engine.succeed(*await engine.claim())
    child = (await engine.steps(task))["s2"].step_uuid
    started = await now(engine)
    await _waits_for_step(engine, child, lambda: engine.orchestration.process_results(10))
    ((enqueued,),) = await engine.sql(
        "SELECT created_at FROM tasker.workflow_step_transitions WHERE step_uuid = %s", child
    )
    assert enqueued >= started + timedelta(seconds=100)


async def test_a_create_reads_the_clock_after_it_has_the_identity(engine: Engine) -> None:
    await engine.create(chain(1))
    identity = bytes([9] * 32)
    task = await task_like_others(engine, identity)
    started = await now(engine)
    async with rival(engine) as other:
        await other.sql(
            "INSERT INTO tasker.task_identities VALUES (%s, gen_random_uuid(), tasker.now())", identity
        )
        creating = await start_blocked(engine, engine.create_tasks([task]))
        await engine.move_clock(100)
        await other.rollback()
    created = (await creating)[task.task_uuid]
    assert created.created_at is not None
    assert created.created_at >= started + timedelta(seconds=100)


# after locking a terminal task, record the step, enqueue nothing, move nothing


async def _end(engine: Engine, task: UUID) -> None:
    """End a task as the staleness detector does: its steps stay as they are."""
    await engine.sql(
        "WITH e AS (UPDATE tasker.tasks SET state = 'error', sort_key = sort_key + 1, wake_at = NULL, "
        "terminal_at = tasker.now() WHERE task_uuid = %s RETURNING task_uuid, sort_key) "
        "INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, created_at) "
        "SELECT task_uuid, sort_key, 'steps_in_process', 'error', tasker.now() FROM e RETURNING 1",
        task,
    )


async def test_a_success_of_an_ended_task_is_recorded_and_starts_nothing(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2))
    (step,) = await any_engine.claim()
    await _end(any_engine, task)
    assert await any_engine.succeed(step) == {step.step_uuid}
    await any_engine.process()
    assert await any_engine.states(task) == {"s1": "complete", "s2": "pending"}
    assert await any_engine.state(task) == "error"
    assert await any_engine.messages(WORKERS) == 0
    ((wake_at, completed_at, transitions),) = await any_engine.sql(
        "SELECT wake_at, completed_at, (SELECT count(*) FROM tasker.task_transitions h "
        "WHERE h.task_uuid = t.task_uuid) FROM tasker.tasks t WHERE t.task_uuid = %s", task,
    )  # fmt: skip
    assert (wake_at, completed_at, transitions) == (None, None, 2)
    await assert_history_is_whole(any_engine, task)
    await assert_nothing_drifted(any_engine)


async def test_a_failure_of_an_ended_task_is_recorded_and_sets_no_timer(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await _end(engine, task)
    await engine.fail(step)
    await engine.process()
    assert await engine.states(task) == {"s1": "waiting_for_retry"}
    assert await engine.sql("SELECT wake_at FROM tasker.tasks") == [(None,)]
    await engine.move_clock(10_000)
    await engine.timers.tick()
    await engine.reconcile(BEGINNING, 10, NO_GRACE)
    assert await engine.states(task) == {"s1": "waiting_for_retry"}
    assert await engine.state(task) == "error"
    assert await engine.messages(WORKERS) == 0
    await assert_nothing_drifted(engine)
