"""Whose result counts, and when a worker is given up."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from tasker.domain.losses import SUSPECT_LOSSES, Company
from tasker.domain.retry import LEASE
from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE
from tasker.orchestration.loops.sweeper import LeaseSweeper
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.operations.renew import Lease, begin_suspect
from tasker.persistence.schema_files import load_functions
from tests.support.engine import Engine, chain, submission, success
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    at_once,
    disconnect,
    reconnect,
    rival,
    start_blocked,
)

pytestmark = pytest.mark.both_ways

LEASE_SECONDS = LEASE.total_seconds()


async def _retried(engine: Engine) -> ClaimedStep:
    """Have the waiting step enqueued again, and claim it."""
    await engine.move_clock(60)
    await engine.timers.tick()
    (step,) = await engine.claim()
    return step


async def _lose(engine: Engine) -> None:
    """Let the leases expire, have them swept and the loss judged."""
    await engine.move_clock(LEASE_SECONDS + 1)
    assert await engine.sweep_leases(100) > 0
    await engine.process()


async def _lease_expiries(engine: Engine) -> list[object]:
    return [
        row[0] for row in await engine.sql("SELECT expires_at FROM tasker.step_leases ORDER BY step_uuid")
    ]


# submit and renew match on the token; attempt numbers only count


async def test_a_result_under_another_token_is_refused(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    token, step.lease_token = step.lease_token, uuid4()
    assert await any_engine.succeed(step) == set()
    assert await any_engine.states(task) == {"s1": "in_progress"}
    assert not await any_engine.sql("SELECT 1 FROM tasker.step_results")
    assert await any_engine.messages(RESULTS_QUEUE) == 0

    step.lease_token = token
    assert await any_engine.succeed(step) == {step.step_uuid}


async def test_the_attempt_number_does_not_make_a_result_good(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (first,) = await any_engine.claim()
    await _lose(any_engine)
    # A reset starts the attempts anew, so both executions are attempt 1.
    await any_engine.database.execute("UPDATE tasker.workflow_steps SET attempts = 0")
    second = await _retried(any_engine)
    assert first.attempt == second.attempt == 1

    assert await any_engine.succeed(first, result={"from": "the lost one"}) == set()
    assert await any_engine.states(task) == {"s1": "in_progress"}
    assert await any_engine.succeed(second, result={"from": "the second"}) == {second.step_uuid}
    results = await any_engine.sql("SELECT result FROM tasker.step_results WHERE success")
    assert results == [({"from": "the second"},)]


async def test_a_lease_is_not_renewed_under_another_token(engine: Engine) -> None:
    await engine.create(chain(1))
    (step,) = await engine.claim()
    before = await _lease_expiries(engine)
    await engine.move_clock(20)
    other = Lease(step.task_uuid, step.step_uuid, uuid4())
    assert await engine.renew([other]) == {step.step_uuid}
    assert await _lease_expiries(engine) == before


async def test_a_result_handed_in_twice_at_once_is_accepted_once(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.worker.submit([success(step, {"n": 1})] * 2)
    ((results,),) = await engine.sql("SELECT count(*) FROM tasker.step_results")
    assert (results, await engine.messages(RESULTS_QUEUE)) == (1, 1)
    await engine.process()
    assert await engine.state(task) == "complete"
    await assert_history_is_whole(engine, task)


# all leases are renewed in one statement; renew returns those it lost


async def test_all_leases_are_renewed_in_one_statement_and_the_lost_ones_named(any_engine: Engine) -> None:
    for _ in range(3):
        await any_engine.create(chain(1))
    lost, *kept = await any_engine.claim()
    await any_engine.freeze_clock()
    await any_engine.database.execute(
        "UPDATE tasker.step_leases SET expires_at = '-infinity' WHERE step_uuid = %s", (lost.step_uuid,)
    )
    await any_engine.database.execute(
        "UPDATE tasker.step_leases SET expires_at = 'infinity' WHERE step_uuid = ANY (%s)",
        ([step.step_uuid for step in kept],),
    )
    assert await any_engine.sweep_leases(10) == 1
    for statement in (
        "CREATE SEQUENCE public.statements",
        "CREATE FUNCTION public.count() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM nextval('public.statements'); RETURN NULL; END $$",
        "CREATE TRIGGER count AFTER UPDATE ON tasker.step_leases FOR EACH STATEMENT EXECUTE FUNCTION public.count()",
    ):
        await any_engine.database.execute(statement)

    assert await any_engine.renew([step.lease for step in (lost, *kept)]) == {lost.step_uuid}
    assert await any_engine.sql("SELECT last_value, is_called FROM public.statements") == [(1, True)]
    ((fresh,),) = await any_engine.sql(
        "SELECT count(*) FROM tasker.step_leases WHERE expires_at = tasker.now() + interval '30 s'"
    )
    assert fresh == 2


async def test_a_lease_lasts_thirty_seconds_from_its_last_renewal_whatever_the_timeout(
    engine: Engine,
) -> None:
    await engine.freeze_clock()
    task = await engine.create(chain(1, timeout_seconds=1))
    (step,) = await engine.claim()
    for _ in range(4):
        await engine.move_clock(29.999)
        assert await engine.sweep_leases(10) == 0
        assert await engine.renew([step.lease]) == set()
    await engine.move_clock(29.999)
    assert await engine.sweep_leases(10) == 0
    await engine.move_clock(0.001)
    assert await engine.sweep_leases(10) == 1
    assert await engine.states(task) == {"s1": "enqueued_as_error_for_orchestration"}


async def test_a_worker_notes_that_it_lives(engine: Engine) -> None:
    await engine.freeze_clock()
    await engine.register_worker(
        hostname="here", version="1", namespaces=["test"], handlers=["work"], slots=4
    )
    await engine.move_clock(60)
    assert await engine.beat(slots_in_use=1)
    ((age, in_use),) = await engine.sql(
        "SELECT tasker.now() - heartbeat_at, slots_in_use FROM tasker.workers"
    )
    assert age == timedelta()
    assert in_use == 1


async def test_leases_are_renewed_whoever_has_locked_the_workers(engine: Engine) -> None:
    await engine.freeze_clock()
    await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.move_clock(29)
    async with rival(engine) as locking:
        await locking.sql("LOCK TABLE tasker.workers")
        assert await at_once(engine.renew([step.lease])) == set()
        assert not await engine.beat(slots_in_use=1)
    await engine.move_clock(29)
    assert await engine.sweep_leases(10) == 0


async def test_a_lease_that_is_just_being_submitted_is_not_lost(any_engine: Engine) -> None:
    await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    async with rival(any_engine) as submitting:
        await submitting.sql(*submission(success(step, {})))
        assert await at_once(any_engine.renew([step.lease])) == set()
        await submitting.commit()
    assert await any_engine.renew([step.lease]) == {step.step_uuid}


# the sweeper acts as a worker and only submits a `worker_lost` result


async def test_the_sweeper_submits_for_the_worker_and_nothing_else(any_engine: Engine) -> None:
    await any_engine.freeze_clock()
    task = await any_engine.create(chain(2))
    (step,) = await any_engine.claim()
    await any_engine.move_clock(LEASE_SECONDS - 0.001)
    assert await any_engine.sweep_leases(10) == 0
    assert await any_engine.states(task) == {"s1": "in_progress", "s2": "pending"}
    await any_engine.move_clock(0.001)
    assert await any_engine.sweep_leases(10) == 1

    assert await any_engine.states(task) == {"s1": "enqueued_as_error_for_orchestration", "s2": "pending"}
    assert await any_engine.state(task) == "steps_in_process"  # the task is evaluated by others
    assert await any_engine.messages(JUDGEMENTS_QUEUE) == 1
    ((success_, status, error_type, attempt, worker),) = await any_engine.sql(
        "SELECT r.success, r.status, r.error ->> 'error_type', r.attempt, t.worker_uuid FROM tasker.step_results r "
        "JOIN tasker.workflow_step_transitions t USING (step_uuid, sort_key)"
    )
    assert (success_, status, error_type) == (False, "error", "worker_lost")
    assert (attempt, worker) == (1, any_engine.worker_uuid)
    assert not await any_engine.sql("SELECT 1 FROM tasker.step_leases")
    await any_engine.process()
    assert step.step_uuid not in await any_engine.succeed(step)
    await assert_history_is_whole(any_engine, task)
    await assert_nothing_drifted(any_engine)


async def test_a_late_result_that_comes_before_the_sweeper_wins(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    await any_engine.move_clock(LEASE_SECONDS + 60)
    assert await any_engine.succeed(step) == {step.step_uuid}
    assert await any_engine.sweep_leases(10) == 0
    await any_engine.process()
    assert await any_engine.state(task) == "complete"
    assert (await any_engine.steps(task))["s1"].attempts == 1


async def test_a_late_result_that_comes_after_the_sweeper_is_discarded(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    await any_engine.move_clock(LEASE_SECONDS + 60)
    assert await any_engine.sweep_leases(10) == 1
    assert await any_engine.succeed(step) == set()
    await any_engine.process()
    assert await any_engine.succeed(step) == set()
    assert await any_engine.states(task) == {"s1": "waiting_for_retry"}
    assert await any_engine.sql("SELECT success FROM tasker.step_results") == [(False,)]


async def test_a_result_that_waits_for_the_sweeper_is_discarded_if_it_commits(engine: Engine) -> None:
    await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.move_clock(LEASE_SECONDS + 1)
    async with rival(engine) as sweeping:
        assert await sweeping.sql("SELECT tasker.sweep_leases_v1(10, %s)", LEASE) == [(1,)]
        submitting = await start_blocked(engine, engine.succeed(step))
        await sweeping.commit()
    assert await submitting == set()
    assert await engine.sql("SELECT success FROM tasker.step_results") == [(False,)]


async def test_a_result_that_waits_for_the_sweeper_counts_if_it_gives_up(engine: Engine) -> None:
    await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.move_clock(LEASE_SECONDS + 1)
    async with rival(engine) as sweeping:
        assert await sweeping.sql("SELECT tasker.sweep_leases_v1(10, %s)", LEASE) == [(1,)]
        submitting = await start_blocked(engine, engine.succeed(step))
        await sweeping.rollback()
    assert await submitting == {step.step_uuid}
    assert await engine.sql("SELECT success FROM tasker.step_results") == [(True,)]


async def test_a_lease_renewed_just_now_is_not_swept(engine: Engine) -> None:
    await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.move_clock(LEASE_SECONDS + 1)
    async with rival(engine) as renewing:
        lost = await renewing.sql(
            "SELECT * FROM tasker.renew_leases_v1(ARRAY[%s], ARRAY[%s], ARRAY[%s], %s)",
            step.task_uuid, step.step_uuid, step.lease_token, LEASE,
        )  # fmt: skip
        assert lost == []
        assert await at_once(engine.sweep_leases(10)) == 0
        await renewing.commit()
    assert await engine.sweep_leases(10) == 0


# no sweep until one lease time after the sweeper's (re)connect


async def test_the_sweeper_waits_one_lease_time_after_it_connected(engine: Engine) -> None:
    await engine.freeze_clock()
    task = await engine.create(chain(1))
    await engine.claim()
    await engine.move_clock(1000)
    await engine.sweeper.tick()
    await engine.move_clock(LEASE_SECONDS - 0.001)
    await engine.sweeper.tick()
    assert await engine.states(task) == {"s1": "in_progress"}
    await engine.move_clock(0.001)
    await engine.sweeper.tick()
    assert await engine.states(task) == {"s1": "enqueued_as_error_for_orchestration"}


async def test_the_sweeper_waits_again_after_it_lost_the_database(engine: Engine) -> None:
    await engine.freeze_clock()
    await engine.sweeper.tick()
    await engine.move_clock(LEASE_SECONDS)
    await engine.sweeper.tick()  # from now on it may sweep
    task = await engine.create(chain(1))
    await engine.claim()

    assert await disconnect(engine) > 0
    await reconnect(engine)
    await engine.move_clock(1000)  # while the database was away nobody could renew
    with contextlib.suppress(psycopg.OperationalError):
        await engine.sweeper.tick()
    await engine.sweeper.tick()
    await engine.move_clock(LEASE_SECONDS - 0.001)
    await engine.sweeper.tick()
    assert await engine.states(task) == {"s1": "in_progress"}
    await engine.move_clock(0.001)
    await engine.sweeper.tick()
    assert await engine.states(task) == {"s1": "enqueued_as_error_for_orchestration"}


@pytest.mark.parametrize("how", ["late", "slow"])
async def test_the_sweeper_waits_again_when_a_tick_was_late_or_slow(engine: Engine, how: str) -> None:
    """What keeps the sweeper from the database for a while may have kept workers from renewing."""
    clock: Iterator[float] = itertools.repeat(0.0)
    sweeper = LeaseSweeper(engine.database.session(), poll_seconds=5, monotonic=lambda: next(clock))
    await engine.freeze_clock()
    await sweeper.tick()
    await engine.move_clock(LEASE_SECONDS)
    await sweeper.tick()  # from now on it may sweep
    task = await engine.create(chain(1))
    await engine.claim()

    await engine.move_clock(1000)
    clock = itertools.chain([5.0] if how == "slow" else [], itertools.repeat(25.0))
    await sweeper.tick()
    await engine.move_clock(LEASE_SECONDS - 0.001)
    await sweeper.tick()
    assert await engine.states(task) == {"s1": "in_progress"}
    await engine.move_clock(0.001)
    await sweeper.tick()
    assert await engine.states(task) == {"s1": "enqueued_as_error_for_orchestration"}


async def test_nothing_is_swept_until_one_lease_time_after_postgresql_started(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    await any_engine.claim()
    await any_engine.database.execute("UPDATE tasker.step_leases SET expires_at = '-infinity'")
    await any_engine.freeze_clock()
    await any_engine.database.execute(
        "UPDATE tasker.clock SET shift = shift + (pg_postmaster_start_time() - tasker.now())"
    )
    await any_engine.move_clock(LEASE_SECONDS - 0.001)
    assert await any_engine.sweep_leases(10) == 0
    assert await any_engine.states(task) == {"s1": "in_progress"}
    await any_engine.move_clock(0.001)
    assert await any_engine.sweep_leases(10) == 1


# retried at no cost, until the step itself is suspect; `on_worker_lost: fail` opts out


async def test_a_lost_worker_costs_no_attempt_and_the_step_runs_again(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1, retry={"max_attempts": 2, "backoff": "none"}))
    (first,) = await any_engine.claim()
    await _lose(any_engine)
    assert await any_engine.states(task) == {"s1": "waiting_for_retry"}
    assert await any_engine.state(task) == "waiting_for_retry"
    second = await _retried(any_engine)
    assert [(step.attempt, step.max_attempts) for step in (first, second)] == [(1, 2), (2, 3)]
    await any_engine.fail(second)
    await any_engine.process()
    third = await _retried(any_engine)
    assert (third.attempt, third.max_attempts, third.suspect) == (3, 3, False)
    await any_engine.fail(third)
    await any_engine.process()
    assert await any_engine.states(task) == {"s1": "error"}
    await assert_history_is_whole(any_engine, task)


async def test_a_step_that_loses_one_worker_after_the_other_ends_in_error_and_says_so(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(chain(1, retry={"max_attempts": 2, "backoff": "none"}))
    (step,) = await any_engine.claim()
    for suspect in (False, True, True):
        await _lose(any_engine)
        step = await _retried(any_engine)
        assert step.suspect is suspect
        if suspect:
            assert await begin_suspect(any_engine.worker_sessions, step.lease, Company.ALONE)
    await _lose(any_engine)
    assert await any_engine.states(task) == {"s1": "error"}
    ((reason, message),) = await any_engine.sql(
        "SELECT t.metadata ->> 'reason', r.error ->> 'message' FROM tasker.workflow_step_transitions t "
        "JOIN tasker.step_results r USING (task_uuid, step_uuid, sort_key) WHERE t.to_state = 'error'"
    )
    assert reason == "ends_workers"
    assert message.startswith(
        "4 workers ended while they ran this step, the last ones while nothing else ran"
    )
    await assert_history_is_whole(any_engine, task)

    await any_engine.operators.reset_for_retry(task, step.step_uuid, performed_by="me", reason="mended")
    (again,) = await any_engine.claim()
    assert (again.attempt, again.max_attempts, again.suspect) == (1, 2, False)


async def test_a_suspect_that_only_waited_loses_nothing(any_engine: Engine) -> None:
    await any_engine.create(chain(1, retry={"max_attempts": 2, "backoff": "none"}))
    await any_engine.claim()
    for _ in range(7):
        await _lose(any_engine)
        step = await _retried(any_engine)
    assert (step.attempt, step.max_attempts, step.suspect) == (8, 9, True)
    assert not await begin_suspect(
        any_engine.worker_sessions, replace(step.lease, lease_token=uuid4()), Company.ALONE
    )


def test_the_database_and_the_domain_suspect_alike() -> None:
    (claim,) = (file.statements for file in load_functions() if file.name == "claim")
    assert claim.count(f"losses >= {SUSPECT_LOSSES}") == claim.count("losses >= ") == 2


async def test_a_step_may_refuse_to_run_again_after_a_lost_worker(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1, on_worker_lost="fail"))
    await any_engine.claim()
    await _lose(any_engine)
    assert await any_engine.states(task) == {"s1": "error"}
    ((reason,),) = await any_engine.sql(
        "SELECT metadata ->> 'reason' FROM tasker.workflow_step_transitions WHERE to_state = 'error'"
    )
    assert reason == "worker_lost"


async def test_a_template_may_refuse_for_all_its_steps_but_one(engine: Engine) -> None:
    document = chain(2) | {"on_worker_lost": "fail"}
    document["steps"][0]["on_worker_lost"] = "retry"
    task = await engine.create(document)
    await engine.claim()
    await _lose(engine)
    assert await engine.states(task) == {"s1": "waiting_for_retry", "s2": "pending"}
    await engine.succeed(await _retried(engine))
    await engine.process()
    await engine.claim()
    await _lose(engine)
    assert await engine.states(task) == {"s1": "complete", "s2": "error"}


async def test_an_ordinary_failure_of_such_a_step_is_still_retried(engine: Engine) -> None:
    task = await engine.create(chain(1, on_worker_lost="fail"))
    await engine.fail(*await engine.claim())
    await engine.process()
    assert await engine.states(task) == {"s1": "waiting_for_retry"}


# a claim need not wait for the disk if every step in it may repeat


@pytest.mark.parametrize(
    ("step", "commit"),
    [
        ({}, "off"),
        ({"on_worker_lost": "fail"}, "on"),
        ({"retry": {"max_attempts": 1}}, "on"),
        ({"retry": {"retryable": False}}, "on"),
    ],
)
async def test_only_a_claim_that_may_be_forgotten_does_not_wait_for_the_disk(
    engine: Engine, step: dict[str, object], commit: str
) -> None:
    task = await engine.create(chain(1, **step))
    uuid = (await engine.steps(task))["s1"].step_uuid
    async with rival(engine) as worker:
        await worker.sql("SET LOCAL synchronous_commit = on")
        assert await worker.claim(task, uuid) == [uuid]
        assert await worker.sql("SHOW synchronous_commit") == [(commit,)]


async def test_a_lease_that_its_step_left_behind_does_not_keep_the_others_from_being_swept(
    engine: Engine,
) -> None:
    left, lost = [await engine.create(chain(1)) for _ in range(2)]
    await engine.claim()
    await engine.database.execute(
        "UPDATE tasker.workflow_steps SET state = 'cancelled' WHERE task_uuid = %s", (left,)
    )
    await engine.move_clock(LEASE_SECONDS + 1)
    assert sum([await engine.sweep_leases(1) for _ in range(2)]) == 1
    assert await engine.states(left) == {"s1": "cancelled"}
    assert await engine.states(lost) == {"s1": "enqueued_as_error_for_orchestration"}
    assert not await engine.sql("SELECT 1 FROM tasker.step_leases")


@pytest.mark.parametrize("order", [("may", "must_not"), ("must_not", "may")], ids=" then ".join)
async def test_one_claim_that_must_not_be_forgotten_decides_for_its_transaction(
    engine: Engine, order: tuple[str, str]
) -> None:
    tasks = {
        "may": await engine.create(chain(1) | {"name": "may"}),
        "must_not": await engine.create(chain(1, on_worker_lost="fail") | {"name": "must_not"}),
    }
    async with rival(engine) as worker:
        for name in order:
            step = (await engine.steps(tasks[name]))["s1"].step_uuid
            assert await worker.claim(tasks[name], step) == [step]
        assert await worker.sql("SHOW synchronous_commit") == [("on",)]
        await worker.commit()
        another = await engine.create(chain(1) | {"name": "may"})
        step = (await engine.steps(another))["s1"].step_uuid
        assert await worker.claim(another, step) == [step]
        assert await worker.sql("SHOW synchronous_commit") == [("off",)]  # and for no other
