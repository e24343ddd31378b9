"""Results that come often, at the wrong moment, or too late."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tasker.domain.retry import LEASE
from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE
from tests.support.engine import Engine, chain, diamond, failure, success
from tests.support.faults import poison
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    duplicate_messages,
    rival,
    start_blocked,
)

pytestmark = pytest.mark.both_ways

WORKERS = "worker_test_queue"


async def _final_rows(engine: Engine, task: UUID) -> dict[str, Any]:
    """Return everything about a task but its ids and the time of day."""
    queries = {
        "task": "SELECT state, sort_key, total_steps, satisfied_steps, failed_steps, in_flight_steps, backoff_steps, "
        "wake_at - updated_at > '0' FROM tasker.tasks WHERE task_uuid = %s",
        "steps": "SELECT name, state, sort_key, attempts, unmet_parents, backoff_request_seconds, "
        "round(extract(epoch FROM next_retry_at - updated_at), 3) FROM tasker.workflow_steps WHERE task_uuid = %s "
        "ORDER BY name",
        "transitions": "SELECT s.name, t.sort_key, t.from_state, t.to_state, t.attempt "
        "FROM tasker.workflow_step_transitions t JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) "
        "WHERE task_uuid = %s ORDER BY s.name, t.sort_key",
        "walk": "SELECT sort_key, from_state, to_state FROM tasker.task_transitions WHERE task_uuid = %s "
        "ORDER BY sort_key",
        "results": "SELECT s.name, r.sort_key, r.attempt, r.success, r.result FROM tasker.step_results r "
        "JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) WHERE task_uuid = %s ORDER BY s.name, r.sort_key",
    }
    return {name: await engine.sql(query, task) for name, query in queries.items()}


async def _play(engine: Engine, *, deliveries: int) -> UUID:
    """Run a task through a failure and a retry, delivering every result and every message so often."""
    task = await engine.create(diamond(retry={"backoff_base_ms": 2000}))
    for lap in range(6):
        steps = sorted(await engine.claim(), key=lambda step: step.name)
        results = [
            failure(step) if (lap, step.name) == (1, "left") else success(step, {"by": step.name})
            for step in steps
        ]
        for _ in range(deliveries):
            await engine.worker.submit(results)
        for queue in (RESULTS_QUEUE, JUDGEMENTS_QUEUE):
            await duplicate_messages(engine, queue, copies=deliveries - 1)
        if lap == 3:  # late, alone, after everything has moved on
            await engine.process()
            await duplicate_messages(engine, WORKERS, copies=deliveries - 1)
        await engine.process()
        if lap == 1:
            assert (await engine.states(task))["left"] == "waiting_for_retry"
        if lap == 2:
            await engine.move_clock(10)
            await engine.timers.tick()
            await duplicate_messages(engine, WORKERS, copies=deliveries - 1)
    return task


async def test_results_delivered_three_times_count_once(any_engine: Engine) -> None:
    once = await _final_rows(any_engine, await _play(any_engine, deliveries=1))
    thrice_played = await _play(any_engine, deliveries=3)
    thrice = await _final_rows(any_engine, thrice_played)
    assert thrice == once
    assert once["task"][0][0] == "complete"
    assert [row[3] for row in once["steps"]] == [1, 2, 1, 1]  # end, left, right, start
    await assert_history_is_whole(any_engine)
    await assert_nothing_drifted(any_engine)


@pytest.mark.long_way
async def test_successes_delivered_again_after_they_were_processed_change_nothing(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(diamond())
    delivered: list[str] = []
    while steps := await any_engine.claim():
        await any_engine.succeed(*steps)
        delivered += [
            text for (text,) in await any_engine.sql(f"SELECT message::text FROM pgmq.q_{RESULTS_QUEUE}")
        ]
        await any_engine.process()
        before = await _all_rows(any_engine)
        await any_engine.sql(
            f"INSERT INTO pgmq.q_{RESULTS_QUEUE} (vt, message) "
            "SELECT clock_timestamp(), unnest(%s::text[])::jsonb RETURNING 1",
            delivered * 2,
        )
        await any_engine.process()
        assert await _all_rows(any_engine) == before
    assert len(delivered) == 4
    assert await any_engine.state(task) == "complete"
    assert await poison(any_engine) == []
    await assert_history_is_whole(any_engine, task)
    await assert_nothing_drifted(any_engine)


async def _all_rows(engine: Engine) -> dict[str, Any]:
    """Return everything that processing a result writes to, whatever it wrote, and when."""
    tables = (
        "tasker.tasks", "tasker.task_transitions", "tasker.workflow_steps", "tasker.workflow_step_transitions",
        "tasker.step_results", "tasker.poison_messages", f"pgmq.q_{WORKERS}", f"pgmq.q_{JUDGEMENTS_QUEUE}",
    )  # fmt: skip
    return {table: sorted(await engine.sql(f"SELECT t::text FROM {table} t")) for table in tables}


async def test_a_failure_delivered_three_times_sets_one_backoff(any_engine: Engine) -> None:
    async def play(deliveries: int) -> dict[str, Any]:
        any_engine.jitter = 0.0
        task = await any_engine.create(chain(1, retry={"backoff_base_ms": 4000}))
        (step,) = await any_engine.claim()
        for _ in range(deliveries):
            await any_engine.fail(step)
        await duplicate_messages(any_engine, JUDGEMENTS_QUEUE, copies=deliveries - 1)
        await any_engine.process()
        before = await any_engine.sql(
            "SELECT next_retry_at FROM tasker.workflow_steps WHERE task_uuid = %s", task
        )
        any_engine.jitter = 1.0  # a second judgement would show
        await any_engine.move_clock(1)
        for _ in range(deliveries - 1):
            await any_engine.sql(
                f"SELECT pgmq.send('{JUDGEMENTS_QUEUE}', jsonb_build_object('v', 1, 'task_uuid', %s::uuid, "
                "'step_uuid', %s::uuid))",
                task,
                step.step_uuid,
            )
        await any_engine.process()
        after = await any_engine.sql(
            "SELECT next_retry_at FROM tasker.workflow_steps WHERE task_uuid = %s", task
        )
        assert before == after
        return await _final_rows(any_engine, task)

    once, thrice = await play(1), await play(3)
    assert thrice == once
    assert once["steps"] == [("s1", "waiting_for_retry", 4, 1, 0, 4, once["steps"][0][-1])]
    assert once["steps"][0][-1] == 4


@pytest.mark.long_way
async def test_a_result_that_arrives_while_its_task_is_enqueuing_is_not_lost(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(diamond())
    await any_engine.succeed(*await any_engine.claim())
    await any_engine.process()
    left, right = sorted(await any_engine.claim(), key=lambda step: step.name)
    await any_engine.succeed(left)
    async with rival(any_engine) as enqueuing:
        # Another orchestrator is in the middle of evaluating the task ...
        await enqueuing.sql("SELECT * FROM tasker.process_results_v1(10, 0, NULL)")
        # ... when the other branch reports, and its message is looked at.
        assert await any_engine.succeed(right) == {right.step_uuid}
        processed = await any_engine.orchestration.process_results(10)
        assert (processed.handled, processed.delayed) == (0, 1)
        await enqueuing.commit()
    await any_engine.move_clock(0.05)
    await any_engine.process()
    assert (await any_engine.states(task))["end"] == "enqueued"
    assert await any_engine.messages(WORKERS) == 1
    await any_engine.run(task)
    await assert_history_is_whole(any_engine, task)


async def test_nor_if_the_other_orchestrator_fails(any_engine: Engine) -> None:
    task = await any_engine.create(diamond())
    await any_engine.succeed(*await any_engine.claim())
    await any_engine.process()
    left, right = sorted(await any_engine.claim(), key=lambda step: step.name)
    await any_engine.succeed(left)
    async with rival(any_engine) as enqueuing:
        await enqueuing.sql("SELECT * FROM tasker.process_results_v1(10, 0, NULL)")
        await any_engine.succeed(right)
        await any_engine.orchestration.process_results(10)
        await enqueuing.rollback()
    await any_engine.move_clock(0.05)
    await any_engine.process()
    await any_engine.run(task)
    await assert_history_is_whole(any_engine, task)


@pytest.mark.long_way
async def test_a_result_whose_steps_row_is_locked_waits_for_it(engine: Engine) -> None:
    task = await engine.create(chain(2))
    (step,) = await engine.claim()
    await engine.succeed(step)
    async with rival(engine) as other:
        await other.lock("workflow_steps", step.step_uuid)
        processing = await start_blocked(engine, engine.orchestration.process_results(10))
        await other.rollback()
    assert (await processing).handled == 1
    await engine.run(task)


async def test_a_killed_workers_step_runs_again_and_its_late_result_is_discarded(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(chain(1))
    (first,) = await any_engine.claim()  # and is killed
    await any_engine.move_clock(LEASE.total_seconds() + 1)
    await any_engine.sweeper.tick()  # it may have connected only now
    await any_engine.move_clock(LEASE.total_seconds())
    await any_engine.sweeper.tick()
    await any_engine.process()
    assert await any_engine.states(task) == {"s1": "waiting_for_retry"}
    await any_engine.move_clock(2)
    await any_engine.timers.tick()
    (second,) = await any_engine.claim()
    assert (second.step_uuid, second.attempt) == (first.step_uuid, 2)

    assert await any_engine.succeed(first, result={"from": "the dead"}) == set()
    await any_engine.process()
    assert await any_engine.states(task) == {"s1": "in_progress"}
    assert await any_engine.succeed(second, result={"from": "the living"}) == {second.step_uuid}
    await any_engine.process()
    assert await any_engine.succeed(first, result={"from": "the dead"}) == set()
    assert await any_engine.state(task) == "complete"
    assert await any_engine.sql("SELECT result FROM tasker.step_results WHERE success") == [
        ({"from": "the living"},)
    ]
    await assert_history_is_whole(any_engine, task)
