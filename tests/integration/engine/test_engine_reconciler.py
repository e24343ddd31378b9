"""The repair behind everything: what has drifted, got lost or was forgotten."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE
from tasker.orchestration.loops.reconciler import Reconciler
from tasker.persistence.operations.reconcile import ReconciledTask
from tests.support.engine import Engine, chain, diamond, submission, success
from tests.support.faults import send_by_hand
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    at_once,
    rival,
    start,
    until,
)

WORKERS = "worker_test_queue"
BEGINNING = UUID(int=0)
GRACE = timedelta(seconds=60)
NO_GRACE = timedelta(0)


async def _reconcile(engine: Engine, *, grace: timedelta = NO_GRACE) -> list[ReconciledTask]:
    return await at_once(engine.reconcile(BEGINNING, 100, grace))


async def _change(engine: Engine, task: UUID, change: str) -> None:
    await engine.database.execute(f"UPDATE tasker.tasks SET {change} WHERE task_uuid = %s", (task,))


# the reconciler recomputes the counts and the unmet parents, and reports drift


@pytest.mark.parametrize("count", ["total", "satisfied", "failed", "in_flight", "backoff"])
async def test_a_count_that_drifted_is_repaired_and_reported(any_engine: Engine, count: str) -> None:
    task, other = await any_engine.create(chain(2)), await any_engine.create(chain(2))
    await _change(any_engine, task, f"{count}_steps = {count}_steps + 3")
    reconciled = {each.task_uuid: each for each in await _reconcile(any_engine)}
    nothing = dict.fromkeys(("total", "satisfied", "failed", "in_flight", "backoff"), 0)
    assert reconciled[task].drift == nothing | {count: -3}
    assert reconciled[other].drift is None
    await assert_nothing_drifted(any_engine)
    assert [each.drift for each in await _reconcile(any_engine)] == [None, None]


async def test_a_task_that_counts_steps_in_flight_which_are_not_is_finished(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    await _change(any_engine, task, "in_flight_steps = in_flight_steps + 1")
    await any_engine.succeed(*await any_engine.claim())
    await any_engine.process()
    assert await any_engine.state(task) == "steps_in_process"  # an orphan
    await _reconcile(any_engine)
    assert await any_engine.state(task) == "complete"
    await assert_history_is_whole(any_engine, task)


async def test_a_child_whose_parent_was_not_counted_is_started(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2))
    child = (await any_engine.steps(task))["s2"].step_uuid
    await any_engine.database.execute(
        "UPDATE tasker.workflow_steps SET total_parents = 2, unmet_parents = 2 WHERE step_uuid = %s", (child,)
    )
    await any_engine.succeed(*await any_engine.claim())
    await any_engine.process()
    assert await any_engine.states(task) == {"s1": "complete", "s2": "pending"}

    (reconciled,) = await _reconcile(any_engine)
    assert reconciled.drift == {"unmet_parents": {"s2": [1, 0]}}
    assert await any_engine.states(task) == {"s1": "complete", "s2": "enqueued"}
    await any_engine.run(task)
    await assert_history_is_whole(any_engine, task)


async def test_a_child_that_counts_too_few_parents_is_not_started(engine: Engine) -> None:
    task = await engine.create(diamond())
    await engine.database.execute(
        "UPDATE tasker.workflow_steps SET unmet_parents = 0 WHERE name = 'end' AND task_uuid = %s", (task,)
    )
    (reconciled,) = await _reconcile(engine)
    assert reconciled.drift == {"unmet_parents": {"end": [0, 2]}}
    assert (await engine.states(task))["end"] == "pending"
    await engine.run(task)
    await assert_nothing_drifted(engine)


async def test_drift_is_reported_as_an_error(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await _change(engine, task, "backoff_steps = 2")
    await engine.move_clock(100)
    with capture_logs() as logs:
        await engine.reconciler.tick()
    ((level, event, reported),) = [
        (log["log_level"], log["event"], log["task_uuid"]) for log in logs if log["event"] == "counts_drifted"
    ]
    assert (level, event, reported) == ("error", "counts_drifted", str(task))


@pytest.mark.parametrize("wrong", ["waiting_for_dependencies", "waiting_for_retry", "pending"])
async def test_a_task_whose_state_does_not_fit_its_steps_is_moved_on(engine: Engine, wrong: str) -> None:
    task = await engine.create(chain(1))
    await _change(engine, task, f"state = '{wrong}'")
    await _reconcile(engine)
    assert await engine.state(task) == "steps_in_process"


async def test_a_timer_that_got_lost_is_set_again(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.fail(*await engine.claim())
    await engine.process()
    ((due,),) = await engine.sql("SELECT next_retry_at FROM tasker.workflow_steps")
    await _change(engine, task, "wake_at = NULL")
    await _reconcile(engine)
    assert await engine.sql("SELECT wake_at FROM tasker.tasks") == [(due,)]


async def test_a_retry_that_no_timer_fired_is_enqueued(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.fail(*await engine.claim())
    await engine.process()
    await _change(engine, task, "wake_at = NULL")
    await engine.move_clock(100)
    await _reconcile(engine)
    assert await engine.states(task) == {"s1": "enqueued"}
    assert await engine.messages(WORKERS) == 1


async def test_ended_tasks_are_left_alone(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.run(task)
    await _change(engine, task, "satisfied_steps = 0")
    assert await _reconcile(engine) == []


# The one path: state first, send second; behind it a loop that sends again what got lost


async def _lose_messages(engine: Engine) -> None:
    for queue in (WORKERS, RESULTS_QUEUE, JUDGEMENTS_QUEUE):
        await engine.database.execute(f"DELETE FROM pgmq.q_{queue}")


async def test_messages_that_got_lost_are_sent_again(any_engine: Engine) -> None:
    tasks = [await any_engine.create(chain(1)) for _ in range(3)]
    succeeded, failed = await any_engine.claim(2)
    await any_engine.succeed(succeeded)
    await any_engine.fail(failed, retryable=False)
    await _lose_messages(any_engine)
    await any_engine.move_clock(61)

    reconciled = await _reconcile(any_engine, grace=GRACE)
    assert [(each.drift, each.resent) for each in reconciled] == [(None, 1)] * 3
    assert [await any_engine.messages(queue) for queue in (WORKERS, RESULTS_QUEUE, JUDGEMENTS_QUEUE)] == [
        1,
        1,
        1,
    ]
    await any_engine.succeed(*await any_engine.claim())
    await any_engine.process()
    assert sorted([await any_engine.state(task) for task in tasks]) == [
        "blocked_by_failures", "complete", "complete",
    ]  # fmt: skip
    await assert_history_is_whole(any_engine)


async def test_messages_that_are_there_are_not_sent_twice(any_engine: Engine) -> None:
    for _ in range(3):
        await any_engine.create(chain(1))
    succeeded, failed = await any_engine.claim(2)
    await any_engine.succeed(succeeded)
    await any_engine.fail(failed)
    await any_engine.move_clock(61)
    for _ in range(2):
        assert [each.resent for each in await _reconcile(any_engine, grace=GRACE)] == [0, 0, 0]
    assert [await any_engine.messages(queue) for queue in (WORKERS, RESULTS_QUEUE, JUDGEMENTS_QUEUE)] == [
        1,
        1,
        1,
    ]


async def test_of_several_messages_only_the_lost_one_is_sent_again(engine: Engine) -> None:
    task = await engine.create(diamond())
    await engine.succeed(*await engine.claim())
    await engine.process()
    left = (await engine.steps(task))["left"].step_uuid
    await engine.database.execute(
        f"DELETE FROM pgmq.q_{WORKERS} WHERE message ->> 'step_uuid' = %s", (str(left),)
    )
    await engine.move_clock(61)
    assert [each.resent for each in await _reconcile(engine, grace=GRACE)] == [1]
    assert sorted(step.name for step in await engine.claim()) == ["left", "right"]


async def test_a_message_that_waits_for_the_right_worker_is_not_lost(engine: Engine) -> None:
    await engine.create(chain(1))
    await engine.move_clock(61)
    await engine.claim(handlers=["other"])  # puts it back, out of sight
    assert [each.resent for each in await _reconcile(engine, grace=NO_GRACE)] == [0]
    assert await engine.messages(WORKERS) == 1


async def test_what_changed_a_moment_ago_is_left_alone(engine: Engine) -> None:
    fresh, old = await engine.create(chain(2)), await engine.create(chain(2))
    await engine.move_clock(61)
    (step,) = [each for each in await engine.claim() if each.task_uuid == fresh]
    await engine.succeed(step)
    await engine.process()  # touches the task
    assert [each.task_uuid for each in await _reconcile(engine, grace=GRACE)] == [old]


async def test_a_message_sent_a_moment_ago_is_not_called_lost(engine: Engine) -> None:
    await engine.create(chain(1))
    await engine.move_clock(61)
    await engine.succeed(*await engine.claim())  # touches the step, not the task
    await _lose_messages(engine)
    assert [each.resent for each in await _reconcile(engine, grace=GRACE)] == [0]
    await engine.move_clock(61)
    assert [each.resent for each in await _reconcile(engine, grace=GRACE)] == [1]


async def test_a_message_sent_twice_does_no_harm(engine: Engine) -> None:
    task = await engine.create(chain(1))
    step = (await engine.steps(task))["s1"].step_uuid
    await _lose_messages(engine)
    await engine.move_clock(61)
    await _reconcile(engine, grace=GRACE)
    await send_by_hand(
        engine, WORKERS, {"v": 1, "task_uuid": str(task), "step_uuid": str(step)}
    )  # late after all
    assert len(await engine.claim()) == 1
    assert await engine.claim() == []


# an `in_progress` step without a lease becomes `worker_lost`


async def test_a_running_step_without_a_lease_is_given_to_the_sweeper(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    await any_engine.database.execute("DELETE FROM tasker.step_leases")
    await any_engine.move_clock(61)
    assert await any_engine.sweep_leases(10) == 0  # nothing there to expire
    await _reconcile(any_engine, grace=GRACE)
    assert await any_engine.sweep_leases(10) == 1
    assert await any_engine.succeed(step) == set()
    await any_engine.process()
    assert await any_engine.states(task) == {"s1": "waiting_for_retry"}
    ((error_type,),) = await any_engine.sql("SELECT error ->> 'error_type' FROM tasker.step_results")
    assert error_type == "worker_lost"
    await assert_nothing_drifted(any_engine)


async def test_a_long_running_step_keeps_its_lease(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    for _ in range(10):
        await engine.move_clock(20)
        await engine.renew([step.lease])
        await _reconcile(engine, grace=GRACE)
        assert await engine.sweep_leases(10) == 0
    await engine.succeed(step)
    await engine.process()
    assert await engine.state(task) == "complete"


async def test_a_submit_that_ends_the_lease_meanwhile_leaves_none_behind(any_engine: Engine) -> None:
    await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    await any_engine.move_clock(61)
    async with rival(any_engine) as submitting:
        await submitting.sql(*submission(success(step, {})))
        reconciling = await start(any_engine, any_engine.reconcile(BEGINNING, 10, GRACE))
        await submitting.commit()
    await reconciling
    assert not await any_engine.sql("SELECT 1 FROM tasker.step_leases")
    await assert_nothing_drifted(any_engine)


# any number of reconcilers


async def test_a_reconciler_passes_by_the_tasks_of_another_one(any_engine: Engine) -> None:
    first, second = sorted([await any_engine.create(chain(1)) for _ in range(2)])
    async with rival(any_engine) as other:
        rows = await other.sql("SELECT task_uuid FROM tasker.reconcile_tasks_v1(%s, 1, '0')", BEGINNING)
        assert rows == [(first,)]
        assert [each.task_uuid for each in await _reconcile(any_engine)] == [second]


async def test_reconcilers_side_by_side_repair_and_report_each_drift_once(database_url: str) -> None:
    async with Engine(database_url) as one, Engine(database_url) as two, Engine(database_url) as three:
        tasks = [await one.create(chain(2)) for _ in range(20)]
        await one.database.execute("UPDATE tasker.tasks SET backoff_steps = 1")
        await one.database.execute(f"DELETE FROM pgmq.q_{WORKERS}")
        found: list[ReconciledTask] = []

        async def walk(engine: Engine) -> None:
            found.extend(await engine.reconcile(BEGINNING, 100, NO_GRACE))

        async def all_found() -> bool:
            await asyncio.gather(*map(walk, (one, two, three)))
            return {each.task_uuid for each in found} >= set(tasks)

        await until(all_found, "not every task is visited")
        assert sorted(each.task_uuid for each in found if each.drift) == sorted(tasks)
        assert sum(each.resent for each in found) == 20
        assert await one.messages(WORKERS) == 20
        await assert_nothing_drifted(one)


async def test_a_walk_visits_every_open_task_and_begins_anew(engine: Engine) -> None:
    tasks = [await engine.create(chain(1)) for _ in range(5)]
    walk = Reconciler(engine.sessions, group_size=2, pause_seconds=30, grace=NO_GRACE)
    for _ in range(2):
        await engine.database.execute("UPDATE tasker.tasks SET backoff_steps = 1")
        with capture_logs() as logs:
            assert [await walk.tick() for _ in range(3)] == [0, 0, 30]
        visited = [log["task_uuid"] for log in logs if log["event"] == "counts_drifted"]
        assert sorted(visited) == sorted(map(str, tasks))
