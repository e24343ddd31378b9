"""What a failed instance means for its batch, and what operators do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tasker.domain.errors import InvalidArgumentError
from tests.support.dynamic import Hands, assert_each_complete_once, edges, split, workflow
from tests.support.engine import Engine
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted

BY: dict[str, str] = {"performed_by": "sam", "reason": "the file is back"}


@pytest.fixture
def hands(engine: Engine) -> Hands:
    return Hands(engine)


async def failed_batch(engine: Engine, hands: Hands, strategy: str, **failure: Any) -> UUID:
    """Return a task of six instances, two at a time, of which the third has failed for good; the fourth still runs."""
    task = await engine.create(
        workflow(
            "b: batchable",
            "w: batch_worker < b",
            "c: deferred_convergence < w",
            "end < c",
            b={"batch_config": {"worker_template": "w", "parallelism": 2, "failure_strategy": strategy}},
        )
    )
    await hands.succeed("b", result=split(6))
    await hands.succeed("w_001", "w_002")
    await hands.running()
    await hands.fail("w_003", **failure)
    return task


async def step_uuid(engine: Engine, task: UUID, name: str) -> UUID:
    return (await engine.steps(task))[name].step_uuid


async def states(engine: Engine, task: UUID) -> dict[str, str]:
    """Return the states of the instances from the third, and of the convergence."""
    found = await engine.states(task)
    return {name: found[name] for name in ("w_003", "w_004", "w_005", "w_006", "c")}


# Strategies


async def test_fail_fast_begins_no_more_and_lets_running_ones_finish(engine: Engine, hands: Hands) -> None:
    task = await failed_batch(engine, hands, "fail_fast")
    held_back = {"w_005": "pending", "w_006": "pending", "c": "pending"}
    assert await states(engine, task) == {"w_003": "error", "w_004": "in_progress", **held_back}
    assert await engine.state(task) == "steps_in_process"
    await hands.succeed("w_004")
    assert await states(engine, task) == {"w_003": "error", "w_004": "complete", **held_back}
    assert await engine.state(task) == "blocked_by_failures"
    await engine.move_clock(100)
    await engine.reconciler.tick()
    assert await states(engine, task) == {"w_003": "error", "w_004": "complete", **held_back}
    await assert_nothing_drifted(engine)


async def test_fail_fast_lets_one_that_has_begun_be_tried_again(engine: Engine, hands: Hands) -> None:
    task = await failed_batch(engine, hands, "fail_fast")
    await hands.fail("w_004", retryable=True)
    assert await engine.state(task) == "waiting_for_retry"
    await engine.move_clock(60)
    await engine.timers.tick()
    assert await hands.running() == {"w_004"}
    await hands.succeed("w_004")
    assert await engine.state(task) == "blocked_by_failures"


async def test_a_fast_failure_of_one_batch_is_none_of_another(engine: Engine, hands: Hands) -> None:
    config = {"parallelism": 1, "failure_strategy": "fail_fast"}
    task = await engine.create(
        workflow(
            "b1: batchable",
            "b2: batchable",
            "w1: batch_worker < b1",
            "w2: batch_worker < b2",
            b1={"batch_config": {"worker_template": "w1"} | config},
            b2={"batch_config": {"worker_template": "w2"} | config},
        )
    )
    await hands.succeed("b1", result=split(2))
    await hands.succeed("b2", result=split(2))
    await hands.fail("w1_001")
    await hands.finish()
    found = await engine.states(task)
    assert (found["w1_002"], found["w2_001"], found["w2_002"]) == ("pending", "complete", "complete")
    assert await engine.state(task) == "blocked_by_failures"


@pytest.mark.parametrize("remedy", ["reset", "resolve", "complete"])
async def test_what_was_held_back_goes_on_once_the_failure_is_dealt_with(
    engine: Engine, hands: Hands, remedy: str
) -> None:
    task = await failed_batch(engine, hands, "fail_fast")
    await hands.succeed("w_004")
    failed = await step_uuid(engine, task, "w_003")
    if remedy == "reset":
        await engine.operators.reset_for_retry(task, failed, **BY)
        assert await hands.running() == {"w_003", "w_005"}
    elif remedy == "resolve":
        await engine.operators.resolve_manually(task, failed, **BY)
        assert await hands.running() == {"w_005", "w_006"}
    else:
        await engine.operators.complete_manually(task, failed, result={"by": "hand"}, **BY)
        assert await hands.running() == {"w_005", "w_006"}
    await hands.finish()
    assert await engine.state(task) == "complete"
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_one_of_several_fast_failures_may_be_tried_again_on_its_own(
    engine: Engine, hands: Hands
) -> None:
    task = await failed_batch(engine, hands, "fail_fast")
    await hands.fail("w_004")
    await engine.operators.reset_for_retry(task, await step_uuid(engine, task, "w_003"), **BY)
    assert await hands.running() == {"w_003"}  # the others wait for what becomes of w_004
    await hands.succeed("w_003")
    assert await engine.state(task) == "blocked_by_failures"
    await engine.operators.resolve_manually(task, await step_uuid(engine, task, "w_004"), **BY)
    await hands.finish()
    assert await engine.state(task) == "complete"
    await assert_nothing_drifted(engine)


async def test_isolate_runs_the_others_and_puts_the_task_before_a_person(
    engine: Engine, hands: Hands
) -> None:
    task = await failed_batch(engine, hands, "isolate")
    assert await hands.running() == {"w_004", "w_005"}
    await hands.finish()
    assert await states(engine, task) == {
        "w_003": "error", "w_004": "complete", "w_005": "complete", "w_006": "complete", "c": "pending",
    }  # fmt: skip
    assert await engine.state(task) == "blocked_by_failures"
    assert await engine.sql("SELECT task_uuid, dlq_reason, resolution_status FROM tasker.tasks_dlq") == [
        (task, "max_retries_exceeded", "pending")
    ]


async def test_continue_on_failure_completes_the_failed_one_and_the_convergence_decides(
    engine: Engine, hands: Hands
) -> None:
    metadata = {"retryable": False, "context": {"processed_before_failure": 4}}
    task = await failed_batch(engine, hands, "continue_on_failure", metadata=metadata)
    assert (await states(engine, task))["w_003"] == "complete"
    for name in ("w_004", "w_005", "w_006"):
        await hands.succeed(name)
    convergence = await hands.take("c")
    found = convergence.dependencies["w_003"]
    assert found.keys() == {"batch_failed", "error", "processed_count", "batch_id"}
    assert (found["batch_failed"], found["processed_count"], found["batch_id"]) == (True, 4, "003")
    assert (found["error"]["message"], found["error"]["error_type"]) == ("it broke", "handler_error")
    await engine.succeed(convergence)
    await engine.process()
    await hands.finish()
    await assert_each_complete_once(engine, task)
    assert await engine.sql("SELECT 1 FROM tasker.tasks_dlq") == []
    # What it did report is kept, and its transition says why it is over.
    rows = await engine.sql(
        "SELECT r.success FROM tasker.step_results r JOIN tasker.workflow_steps s USING (step_uuid) "
        "WHERE s.name = 'w_003' ORDER BY r.sort_key"
    )
    assert rows == [(False,), (True,)]
    ((reason,),) = await engine.sql(
        "SELECT t.metadata ->> 'reason' FROM tasker.workflow_step_transitions t "
        "JOIN tasker.workflow_steps s USING (step_uuid) WHERE s.name = 'w_003' AND t.to_state = 'complete'"
    )
    assert reason
    await assert_history_is_whole(engine, task)


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda engine: engine.sql("SELECT 1"), 0),
        (
            lambda engine: engine.sql(
                "UPDATE tasker.workflow_steps SET checkpoint = '{\"items_processed\": 7}' "
                "WHERE name = 'w_003' RETURNING 1"
            ),
            7,
        ),
    ],
    ids=["nothing said", "a checkpoint"],
)
async def test_a_tolerated_failure_tells_how_far_it_came(
    engine: Engine, hands: Hands, prepare: Callable[[Engine], Any], expected: int
) -> None:
    config = {"worker_template": "w", "failure_strategy": "continue_on_failure"}
    await engine.create(
        workflow(
            "b: batchable", "w: batch_worker < b", "c: deferred_convergence < w", b={"batch_config": config}
        )
    )
    await hands.succeed("b", result=split(3))
    await hands.succeed("w_001", "w_002")
    await prepare(engine)
    await hands.fail("w_003")
    assert (await hands.take("c")).dependencies["w_003"]["processed_count"] == expected


async def test_continue_on_failure_tries_as_often_as_the_others_do(engine: Engine, hands: Hands) -> None:
    config = {"worker_template": "w", "failure_strategy": "continue_on_failure"}
    retry = {"retry": {"max_attempts": 2, "backoff": "none"}}
    task = await engine.create(
        workflow("b: batchable", "w: batch_worker < b", b={"batch_config": config}, w=retry)
    )
    await hands.succeed("b", result=split(1))
    await hands.fail("w_001", retryable=True)
    assert (await engine.states(task))["w_001"] == "enqueued"
    await hands.fail("w_001", retryable=True)
    assert (await engine.steps(task))["w_001"].attempts == 2
    await assert_each_complete_once(engine, task)


# Operators


async def test_a_reset_instance_starts_where_it_stopped(engine: Engine, hands: Hands) -> None:
    task = await failed_batch(engine, hands, "isolate")
    checkpoint = {"cursor": {"row": 23}, "items_processed": 3, "accumulated_results": {"sum": 1.5}}
    await engine.sql(
        "UPDATE tasker.workflow_steps SET checkpoint = %s::text::jsonb WHERE name = 'w_003' RETURNING 1",
        '{"cursor": {"row": 23}, "items_processed": 3, "accumulated_results": {"sum": 1.5}}',
    )
    await hands.finish()
    await engine.operators.reset_for_retry(task, await step_uuid(engine, task, "w_003"), **BY)
    step = await hands.take("w_003")
    assert step.inputs is not None
    assert step.inputs["cursor"] == {
        "batch_id": "003", "start_cursor": 20, "end_cursor": 30, "batch_size": 10,
    }  # fmt: skip
    assert (step.checkpoint, step.attempt) == (checkpoint, 1)
    await engine.succeed(step)
    await engine.process()
    await hands.finish()
    await assert_each_complete_once(engine, task)


async def test_what_an_operator_supplies_feeds_the_aggregator(engine: Engine, hands: Hands) -> None:
    task = await failed_batch(engine, hands, "isolate")
    failed = await step_uuid(engine, task, "w_003")
    await engine.operators.complete_manually(task, failed, result={"processed_count": 10}, **BY)
    await hands.succeed("w_004", "w_005", "w_006")
    assert (await hands.take("c")).dependencies["w_003"] == {"processed_count": 10}


async def test_a_resolved_instance_is_left_out_of_the_aggregate(engine: Engine, hands: Hands) -> None:
    task = await failed_batch(engine, hands, "isolate")
    await engine.operators.resolve_manually(task, await step_uuid(engine, task, "w_003"), **BY)
    await hands.succeed("w_004", "w_005", "w_006")
    joined = (await hands.take("c")).dependencies
    assert set(joined) == {"b", "w_001", "w_002", "w_004", "w_005", "w_006"}


@pytest.mark.parametrize("resolved", ["running", "waiting"])
async def test_an_instance_that_is_dealt_with_makes_room(engine: Engine, hands: Hands, resolved: str) -> None:
    config = {"worker_template": "w", "parallelism": 1}
    task = await engine.create(workflow("b: batchable", "w: batch_worker < b", b={"batch_config": config}))
    await hands.succeed("b", result=split(3))
    assert await hands.running() == {"w_001"}
    name = "w_001" if resolved == "running" else "w_002"
    await engine.operators.resolve_manually(task, await step_uuid(engine, task, name), **BY)
    found = await engine.states(task)
    assert [found["w_002"], found["w_003"]] == (
        ["enqueued", "pending"] if resolved == "running" else ["resolved_manually", "pending"]
    )


async def test_a_refused_split_may_be_corrected(engine: Engine, hands: Hands) -> None:
    task = await engine.create(workflow("b: batchable", "w: batch_worker < b", "c: deferred_convergence < w"))
    await hands.succeed("b", result={})
    batchable = await step_uuid(engine, task, "b")
    with pytest.raises(InvalidArgumentError) as refusal:
        await engine.operators.complete_manually(task, batchable, result=None, **BY)
    assert refusal.value.violations[0].description.startswith("OUTCOME_MISSING: ")
    await engine.operators.complete_manually(task, batchable, result=split(2), **BY)
    assert await hands.running() == {"w_001", "w_002"}
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)


async def test_a_resolved_split_has_nothing_to_do(engine: Engine, hands: Hands) -> None:
    task = await engine.create(workflow("b: batchable", "w: batch_worker < b", "c: deferred_convergence < w"))
    await engine.operators.resolve_manually(task, await step_uuid(engine, task, "b"), **BY)
    assert await edges(engine, task, "c") == {"w_000": "worker_to_convergence"}
    assert await hands.running() == {"w_000"}
    await hands.finish()
    assert await engine.state(task) == "complete"
    await assert_nothing_drifted(engine)


async def test_a_split_of_a_cancelled_task_leads_to_nothing(engine: Engine, hands: Hands) -> None:
    task = await engine.create(workflow("b: batchable", "w: batch_worker < b"))
    await hands.submit("b", split(2))
    await engine.operators.cancel(task)
    await engine.process()
    assert await engine.states(task) == {"b": "cancelled"}
