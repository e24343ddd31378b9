"""The short way of a step: completed where its result is submitted, and followed by the next claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE, Band, worker_queue
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.operations.finish import NextClaims, finish_steps
from tests.support.dynamic import decide, split, workflow
from tests.support.engine import NAMESPACE, WORKER_QUEUE, Engine, chain, diamond, failure, graph, success
from tests.support.faults import refuse
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted, rival

FAN = graph({"root": [], **{f"leaf{n}": ["root"] for n in range(5)}, "join": [f"leaf{n}" for n in range(5)]})


async def _history(engine: Engine, task: UUID) -> dict[str, Sequence[object]]:
    """Return what was recorded of a task and its steps, by name, without what differs from run to run."""
    steps = await engine.sql(
        "SELECT s.name, t.sort_key, t.from_state, t.to_state, t.attempt, t.worker_uuid IS NOT NULL "
        "FROM tasker.workflow_step_transitions t JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) "
        "WHERE t.task_uuid = %s ORDER BY s.name, t.sort_key",
        task,
    )
    results = await engine.sql(
        "SELECT s.name, r.sort_key, r.attempt, r.success, r.result FROM tasker.step_results r "
        "JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) WHERE r.task_uuid = %s ORDER BY s.name, r.sort_key",
        task,
    )
    audit = await engine.sql(
        "SELECT step_name, from_state, to_state, worker_uuid IS NOT NULL FROM tasker.workflow_step_result_audit "
        "WHERE task_uuid = %s ORDER BY step_name",
        task,
    )
    counts = await engine.sql(
        "SELECT state, total_steps, satisfied_steps, failed_steps, in_flight_steps, backoff_steps, wake_at, "
        "completed_at IS NOT NULL FROM tasker.tasks WHERE task_uuid = %s",
        task,
    )
    ends = await engine.sql(
        "SELECT name, state, attempts, unmet_parents, completed_at IS NOT NULL, checkpoint FROM tasker.workflow_steps "
        "WHERE task_uuid = %s ORDER BY name",
        task,
    )
    leases = await engine.sql("SELECT count(*) FROM tasker.step_leases WHERE task_uuid = %s", task)
    return {
        "steps": steps,
        "results": results,
        "audit": audit,
        "task": counts,
        "ends": ends,
        "leases": leases,
    }


async def _run_short(engine: Engine, steps: list[ClaimedStep], *, limit: int = 100) -> int:
    """Finish steps and those that follow until nothing is claimed; return how many calls that took."""
    calls = 0
    while steps:
        finished = await engine.finish(*(success(step, {"by": step.name}) for step in steps), limit=limit)
        assert finished.accepted == {step.step_uuid for step in steps}
        steps = finished.claimed or await engine.claim()
        calls += 1
    return calls


@pytest.mark.parametrize("document", [chain(3), diamond(), FAN], ids=["chain", "diamond", "fan"])
async def test_it_records_what_the_long_way_records(any_engine: Engine, document: Mapping[str, Any]) -> None:
    long = await any_engine.create(document)
    while steps := await any_engine.claim():
        await any_engine.worker.submit([success(step, {"by": step.name}) for step in steps])
        await any_engine.process()
    short = await any_engine.create(document)
    await _run_short(any_engine, await any_engine.claim())
    assert await any_engine.state(short) == "complete"
    assert await _history(any_engine, short) == await _history(any_engine, long)
    await assert_history_is_whole(any_engine)
    await assert_nothing_drifted(any_engine)


async def test_a_chain_needs_no_message_but_the_first(any_engine: Engine) -> None:
    await any_engine.create(chain(4))
    ((first,),) = await any_engine.sql(f"SELECT max(msg_id) FROM pgmq.q_{WORKER_QUEUE}")
    calls = await _run_short(any_engine, await any_engine.claim())
    ((last,),) = await any_engine.sql(f"SELECT last_value FROM pgmq.q_{WORKER_QUEUE}_msg_id_seq")
    assert (calls, last) == (4, first)
    assert await any_engine.messages(RESULTS_QUEUE) == 0


async def test_what_follows_comes_with_all_that_its_handler_needs(engine: Engine) -> None:
    task = await engine.create(chain(2), {"order": 7})
    (first,) = await engine.claim()
    claims = NextClaims(1, [WORKER_QUEUE], ["work"])
    (second,) = (await engine.worker.finish([success(first, {"n": 1})], claims)).claimed
    assert (second.task_uuid, second.name, second.attempt) == (task, "s2", 1)
    assert (second.context, second.dependencies) == ({"order": 7}, {"s1": {"n": 1}})
    assert second.lease_token == claims.lease_token != first.lease_token
    assert await engine.renew([second.lease]) == set()
    assert second.queue == ""


# what goes the long way


async def test_a_task_that_is_busy_is_not_waited_for(any_engine: Engine) -> None:
    busy, free = [await any_engine.create(chain(2)) for _ in range(2)]
    steps = await any_engine.claim()
    async with rival(any_engine) as other:
        await other.lock("tasks", busy)
        finished = await any_engine.finish(*(success(step, {}) for step in steps), limit=2)
        assert finished.accepted == {step.step_uuid for step in steps}
        assert [step.task_uuid for step in finished.claimed] == [free]
        assert await any_engine.states(busy) == {"s1": "enqueued_for_orchestration", "s2": "pending"}
        assert await any_engine.messages(RESULTS_QUEUE) == 1
    await any_engine.process()
    assert await any_engine.states(busy) == {"s1": "complete", "s2": "enqueued"}


async def test_failures_are_judged_by_orchestration(any_engine: Engine) -> None:
    task = await any_engine.create(graph({"good": [], "bad": [], "after": ["good"]}))
    good, bad = sorted(await any_engine.claim(), key=lambda step: step.name, reverse=True)
    finished = await any_engine.finish(success(good, {}), failure(bad), limit=2)
    assert [step.name for step in finished.claimed] == ["after"]
    assert (await any_engine.states(task))["bad"] == "enqueued_as_error_for_orchestration"
    assert await any_engine.messages(JUDGEMENTS_QUEUE) == 1
    await any_engine.process()
    assert (await any_engine.states(task))["bad"] == "waiting_for_retry"


async def test_a_task_with_a_failed_step_is_left_to_orchestration(engine: Engine) -> None:
    """It may be blocked by what completes now, and only orchestration knows whether that makes a DLQ entry."""
    task = await engine.create(graph({"good": [], "bad": []}))
    good, bad = sorted(await engine.claim(), key=lambda step: step.name, reverse=True)
    await engine.finish(failure(bad, retryable=False))
    await engine.process()
    await engine.finish(success(good, {}))
    assert await engine.states(task) == {"good": "enqueued_for_orchestration", "bad": "error"}
    await engine.process()
    assert await engine.state(task) == "blocked_by_failures"


@pytest.mark.parametrize(
    ("document", "result", "created"),
    [
        (workflow("s", "it: decision < s", "a < it", "b < it"), decide("a"), {"a"}),
        (workflow("s", "it: batchable < s", "w: batch_worker < it"), split(2), {"w_001", "w_002"}),
    ],
    ids=["decision", "batch"],
)
async def test_decisions_and_batches_are_judged_by_orchestration(
    engine: Engine, document: Mapping[str, Any], result: object, created: set[str]
) -> None:
    task = await engine.create(document)
    (first,) = await engine.claim()
    (step,) = (await engine.finish(success(first, {}), limit=1)).claimed
    assert (await engine.finish(success(step, result), limit=1)).claimed == []
    assert (await engine.states(task))["it"] == "enqueued_for_orchestration"
    await engine.process()
    assert created <= set(await engine.states(task))


async def test_instances_of_a_batch_make_room_for_others(engine: Engine) -> None:
    task = await engine.create(
        workflow(
            "it: batchable", "w: batch_worker < it", "join: deferred_convergence < w",
            it={"batch_config": {"worker_template": "w", "batch_size": 1, "parallelism": 2}},
        )
    )  # fmt: skip
    (step,) = await engine.claim()
    await engine.finish(success(step, split(5)))
    await engine.process()
    running, most = await engine.claim(), 0
    while running:
        most = max(most, len(running))
        running = (await engine.finish(*(success(step, {}) for step in running), limit=10)).claimed
    assert (await engine.state(task), most) == ("complete", 2)
    await assert_nothing_drifted(engine)


async def test_a_task_that_is_over_only_has_its_step_recorded(engine: Engine) -> None:
    task = await engine.create(chain(2))
    (step,) = await engine.claim()
    await engine.database.execute(
        "UPDATE tasker.tasks SET state = 'resolved_manually', terminal_at = tasker.now() WHERE task_uuid = %s",
        (task,),
    )
    finished = await engine.finish(success(step, {}), limit=1)
    assert (finished.accepted, finished.claimed) == ({step.step_uuid}, [])
    assert await engine.states(task) == {"s1": "complete", "s2": "pending"}
    assert await engine.state(task) == "resolved_manually"


# what may be claimed


async def test_no_more_is_claimed_than_the_limit_and_the_rest_is_for_everybody(any_engine: Engine) -> None:
    await any_engine.create(FAN)
    (root,) = await any_engine.claim()
    finished = await any_engine.finish(success(root, {}), limit=2)
    assert len(finished.claimed) == 2
    others = await any_engine.claim()
    assert len(others) == 3
    assert not {step.step_uuid for step in others} & {step.step_uuid for step in finished.claimed}


@pytest.mark.parametrize(
    ("queues", "handlers"),
    [((worker_queue(NAMESPACE, Band.HIGH),), ("work",)), ((WORKER_QUEUE,), ("other",)), ((), ("work",))],
    ids=["queue", "handler", "nothing"],
)
async def test_only_what_the_worker_serves_is_claimed(
    engine: Engine, queues: tuple[str, ...], handlers: tuple[str, ...]
) -> None:
    await engine.create(chain(2))
    (first,) = await engine.claim()
    finished = await engine.finish(success(first, {}), limit=1, queues=queues, handlers=handlers)
    assert finished.claimed == []
    assert [step.name for step in await engine.claim()] == ["s2"]  # its message waits for another worker


async def test_of_several_handlers_those_that_the_worker_lacks_are_left_for_others(engine: Engine) -> None:
    document = graph({"root": [], "mine": ["root"], "theirs": ["root"]})
    document["steps"][2]["handler"] = "other"
    await engine.create(document)
    (root,) = await engine.claim()
    finished = await engine.finish(success(root, {}), limit=2)
    assert [step.name for step in finished.claimed] == ["mine"]
    assert [step.name for step in await engine.claim(handlers=("other",))] == ["theirs"]


async def test_results_wait_for_the_disk_also_where_the_claims_with_them_need_not(engine: Engine) -> None:
    await engine.create(chain(2))
    (first,) = await engine.claim()
    async with engine.worker_sessions.transaction() as transaction:
        await transaction.execute("SELECT set_config('synchronous_commit', 'on', true)")
        claims = NextClaims(1, [WORKER_QUEUE], ["work"])
        finished = await finish_steps(transaction, engine.worker_uuid, [success(first, {})], claims)
        assert [step.name for step in finished.claimed] == ["s2"]
        assert await transaction.fetch_value("SHOW synchronous_commit") == "on"


# fencing


async def test_a_result_under_another_token_changes_nothing_and_claims_nothing(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2))
    (step,) = await any_engine.claim()
    step.lease_token = uuid4()
    finished = await any_engine.finish(success(step, {}), limit=1)
    assert (finished.accepted, finished.claimed) == (set(), [])
    assert await any_engine.states(task) == {"s1": "in_progress", "s2": "pending"}
    assert not await any_engine.sql("SELECT 1 FROM tasker.step_results")


async def test_the_same_result_counts_once(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2))
    (step,) = await any_engine.claim()
    await any_engine.finish(success(step, {"n": 1}))
    assert (await any_engine.finish(success(step, {"n": 2}), limit=1)).accepted == set()
    assert await any_engine.sql("SELECT result FROM tasker.step_results") == [({"n": 1},)]
    assert await any_engine.states(task) == {"s1": "complete", "s2": "enqueued"}


async def test_a_call_whose_reply_was_lost_is_made_again_and_has_its_claims(engine: Engine) -> None:
    task = await engine.create(chain(2), {"order": 7})
    (first,) = await engine.claim()
    claims = NextClaims(1, [WORKER_QUEUE], ["work"])
    (second,) = (await engine.worker.finish([success(first, {"n": 1})], claims)).claimed
    before = await _history(engine, task)

    claims.repeated = True  # as if nothing had been heard of it
    again = await engine.worker.finish([success(first, {"n": 1})], claims)
    assert again.accepted == {first.step_uuid}
    assert again.claimed == [second]
    assert await _history(engine, task) == before
    assert (await engine.finish(success(again.claimed[0], {}))).accepted == {second.step_uuid}
    assert await engine.state(task) == "complete"


async def test_a_call_that_failed_may_have_been_heard(engine: Engine) -> None:
    await engine.create(chain(2))
    (first,) = await engine.claim()
    claims = NextClaims(1, [WORKER_QUEUE], ["work"])
    await refuse(engine, "tasker.step_results", "true", event="INSERT", last=1)
    with pytest.raises(psycopg.Error, match="refused by the test"):
        await engine.worker.finish([success(first, {})], claims)
    assert claims.repeated
    finished = await engine.worker.finish([success(first, {})], claims)
    assert [step.name for step in finished.claimed] == ["s2"]


async def test_a_repeated_call_that_came_through_only_now_is_as_good_as_the_first(engine: Engine) -> None:
    task = await engine.create(chain(2))
    (first,) = await engine.claim()
    claims = NextClaims(1, [WORKER_QUEUE], ["work"], repeated=True)
    finished = await engine.worker.finish([success(first, {})], claims)
    assert finished.accepted == {first.step_uuid}
    assert [step.name for step in finished.claimed] == ["s2"]
    assert await engine.states(task) == {"s1": "complete", "s2": "in_progress"}
