"""Batches split work into instances, which run within limits and are joined."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tasker.orchestration.engine.expansion import BatchLimits
from tests.support.dynamic import Hands, assert_each_complete_once, edges, split, workflow
from tests.support.engine import Engine
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    duplicate_messages,
)

STEPS = ("b: batchable", "w: batch_worker < b", "c: deferred_convergence < w", "end < c")


@pytest.fixture
def hands(engine: Engine) -> Hands:
    return Hands(engine)


def batch(**config: Any) -> dict[str, Any]:
    """Return a template of one batch, run like this."""
    return workflow(*STEPS, w={"batch_config": {"worker_template": "w"} | config})


def instances(count: int, worker: str = "w") -> set[str]:
    return {f"{worker}_{n:03}" for n in range(1, count + 1)}


async def in_flight(engine: Engine, task: UUID) -> set[str]:
    """Return the instances that are enqueued or in progress."""
    return {
        name
        for name, state in (await engine.states(task)).items()
        if name[-1].isdigit() and state in ("enqueued", "in_progress")
    }


# Instances


async def test_a_batch_runs_its_instances_and_then_what_joins_them(engine: Engine, hands: Hands) -> None:
    task = await engine.create(batch())
    assert await engine.states(task) == {"b": "enqueued"}
    await hands.succeed("b", result=split(3))
    assert await engine.states(task) == {
        "b": "complete", "c": "pending", "end": "pending", **dict.fromkeys(instances(3), "enqueued"),
    }  # fmt: skip
    assert await edges(engine, task, "w_002") == {"b": "batch_dependency"}
    assert await edges(engine, task, "c") == dict.fromkeys(instances(3), "worker_to_convergence")
    assert await edges(engine, task, "end") == {"c": "provides"}
    await hands.succeed("w_001", "w_003")
    assert (await engine.states(task))["c"] == "pending"
    await hands.succeed("w_002")
    assert await hands.running() == {"c"}
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_an_instance_does_not_see_the_shares_of_the_others(engine: Engine, hands: Hands) -> None:
    """A thousand instances, each with the cursors of all, would be a million cursors."""
    task = await engine.create(batch())
    outcome = split(2)
    await hands.succeed("b", result=outcome | {"rows": 20})
    step = await hands.take("w_001")
    seen = step.dependencies
    await engine.hydrate(step)
    assert step.dependencies == seen
    left = {k: v for k, v in outcome["batch_processing_outcome"].items() if k != "cursor_configs"}
    assert seen == {"b": {"batch_processing_outcome": left, "rows": 20}}
    await engine.succeed(step)
    await hands.succeed("w_002")
    assert (await hands.take("c")).dependencies["b"] == outcome | {"rows": 20}  # whoever joins them does
    assert (await engine.states(task))["w_001"] == "complete"


async def test_an_instance_is_set_up_with_its_share_of_the_work(engine: Engine, hands: Hands) -> None:
    document = batch(cursor_field="row", failure_strategy="isolate")
    document["steps"][1] |= {
        "handler": {"callable": "work", "initialization": {"level": 2, "cursor": "hidden"}},
        "retry": {"max_attempts": 4},
        "timeout_seconds": 7,
    }
    await engine.create(document, {"file": "a.csv"})
    await hands.succeed("b", result=split(2, size=200))
    step = await hands.take("w_002")
    assert step.inputs == {
        "level": 2,
        "cursor": {"batch_id": "002", "start_cursor": 200, "end_cursor": 400, "batch_size": 200},
        "batch_metadata": {"cursor_field": "row", "failure_strategy": "isolate"},
        "is_no_op": False,
        "__template_step_name": "w",
    }
    assert (step.template_step_name, step.handler, step.max_attempts, step.timeout_seconds) == (
        "w",
        "work",
        4,
        7,
    )
    assert step.context == {"file": "a.csv"}
    assert set(step.dependencies) == {"b"}
    assert await engine.sql("SELECT step_type::text FROM tasker.workflow_steps WHERE name = 'w_002'") == [
        ("standard",)
    ]


async def test_the_convergence_sees_each_instance_and_an_instance_no_other(
    engine: Engine, hands: Hands
) -> None:
    await engine.create(
        workflow("a", "b: batchable < a", "w: batch_worker < b", "c: deferred_convergence < w")
    )
    await hands.succeed("a")
    await hands.succeed("b", result=split(2))
    await hands.succeed("w_001", result={"total": 1})
    step = await hands.take("w_002")
    assert set(step.dependencies) == {"a", "b"}
    await engine.succeed(step, result={"total": 2})
    await engine.process()
    joined = (await hands.take("c")).dependencies
    assert set(joined) == {"a", "b", "w_001", "w_002"}
    assert [joined[name] for name in ("w_001", "w_002")] == [{"total": 1}, {"total": 2}]


async def test_a_batch_of_nothing_has_one_placeholder(engine: Engine, hands: Hands) -> None:
    task = await engine.create(batch())
    await hands.succeed("b", result=split(0))
    assert set(await engine.states(task)) == {"b", "w_000", "c", "end"}
    step = await hands.take("w_000")
    assert step.inputs == {
        "cursor": {"batch_id": "000", "start_cursor": 0, "end_cursor": 0, "batch_size": 0},
        "batch_metadata": {"cursor_field": "id", "failure_strategy": "fail_fast"},
        "is_no_op": True,
        "__template_step_name": "w",
    }
    assert await edges(engine, task, "c") == {"w_000": "worker_to_convergence"}
    await engine.succeed(step)
    await engine.process()
    await hands.finish()
    await assert_each_complete_once(engine, task)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00+01:00"),
        ("01a204ba-af5e-7050-a729-9312d172605e", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ({"shard": 3, "key": ["a", None, 1.5]}, {"shard": 4, "key": []}),
        (2**60 + 1, 10**30),
        (-0.1, None),
    ],
)
async def test_a_cursor_may_be_anything(engine: Engine, hands: Hands, start: object, end: object) -> None:
    await engine.create(batch())
    outcome = split(1)
    (cursor,) = outcome["batch_processing_outcome"]["cursor_configs"]
    cursor |= {"start_cursor": start, "end_cursor": end}
    await hands.succeed("b", result=outcome)
    inputs = (await hands.take("w_001")).inputs
    assert inputs is not None
    assert (inputs["cursor"]["start_cursor"], inputs["cursor"]["end_cursor"]) == (start, end)


# Which worker

TWO_WORKERS = ("b: batchable", "w: batch_worker < b", "v: batch_worker < b", "c: deferred_convergence < w v")
INITIALIZED = {"handler": {"callable": "work", "initialization": {"worker_template_name": "v"}}}


@pytest.mark.parametrize("count", [2, 0])
@pytest.mark.parametrize(
    ("steps", "named", "keys", "expected"),
    [
        (TWO_WORKERS, "v", {"batch_config": {"worker_template": "w"}}, "v"),
        (TWO_WORKERS, None, INITIALIZED | {"batch_config": {"worker_template": "w"}}, "w"),
        (TWO_WORKERS, None, INITIALIZED, "v"),
        (STEPS, None, {}, "w"),
    ],
    ids=["the outcome", "batch_config", "initialization", "the only one"],
)
async def test_the_worker_is_the_first_that_is_named(
    engine: Engine,
    hands: Hands,
    count: int,
    steps: tuple[str, ...],
    named: str | None,
    keys: dict[str, Any],
    expected: str,
) -> None:
    task = await engine.create(workflow(*steps, b=keys))
    result = split(count, worker=named)
    if named:
        result["batch_processing_outcome"]["worker_template_name"] = named
    await hands.succeed("b", result=result)
    wanted = instances(count, expected) or {f"{expected}_000"}
    assert set(await edges(engine, task, "c")) == wanted
    await hands.finish()
    await assert_each_complete_once(engine, task)


@pytest.mark.parametrize("where", ["b", "w"])
async def test_batch_config_may_stand_on_either_step(engine: Engine, hands: Hands, where: str) -> None:
    config = {"worker_template": "w", "parallelism": 1, "cursor_field": "row"}
    task = await engine.create(workflow(*STEPS, **{where: {"batch_config": config}}))
    await hands.succeed("b", result=split(2))
    assert await in_flight(engine, task) == {"w_001"}
    inputs = (await hands.take("w_001")).inputs
    assert inputs is not None
    assert inputs["batch_metadata"]["cursor_field"] == "row"


# Outcomes that cannot be carried out


def cursors(*ids: object, **outcome: object) -> dict[str, Any]:
    """Return an outcome with these batch ids; `outcome` replaces keys of it."""
    parts = [{"batch_id": each, "start_cursor": 0, "end_cursor": 1, "batch_size": 1} for each in ids]
    fields = {"type": "create_batches", "worker_count": len(ids), "cursor_configs": parts, "total_items": 1}
    return {"batch_processing_outcome": fields | outcome}


REFUSED = [
    ({}, "OUTCOME_MISSING", "batchable 'b' returned no valid batch_processing_outcome"),
    (None, "OUTCOME_MISSING", "batchable 'b' returned no valid batch_processing_outcome"),
    (
        {"batch_processing_outcome": {"type": "some"}},
        "OUTCOME_MALFORMED",
        "its type must be create_batches or no_batches",
    ),
    (
        {"batch_processing_outcome": {"type": "no_batches", "worker_template_name": 7}},
        "OUTCOME_MALFORMED",
        "worker_template_name must be a text",
    ),
    (
        cursors("001", worker_count=2),
        "OUTCOME_MALFORMED",
        "worker_count is 2, but there are 1 cursor_configs",
    ),
    (cursors(), "OUTCOME_MALFORMED", "worker_count is 0"),
    (cursors("001", worker_count="1"), "OUTCOME_MALFORMED", "worker_count a whole number"),
    (cursors("001", worker_count=True), "OUTCOME_MALFORMED", "worker_count a whole number"),
    (cursors("001", cursor_configs={}), "OUTCOME_MALFORMED", "cursor_configs must be a list"),
    (cursors("001", cursor_configs=["001"]), "OUTCOME_MALFORMED", "each of cursor_configs must be an object"),
    (
        cursors("001", cursor_configs=[{"batch_id": "001"}]),
        "OUTCOME_MALFORMED",
        "start_cursor and end_cursor",
    ),
    (cursors("001", "002", "001"), "OUTCOME_MALFORMED", "batch_id '001' occurs twice"),
    (cursors("001", "batch_001"), "OUTCOME_MALFORMED", "batch_id '001' occurs twice"),
    (cursors("01"), "OUTCOME_MALFORMED", "batch_id '01' must be a text of 3 to 18 digits"),
    (cursors("one"), "OUTCOME_MALFORMED", "3 to 18 digits"),
    (cursors("\u0660\u0660\u0661"), "OUTCOME_MALFORMED", "3 to 18 digits"),
    (cursors(1), "OUTCOME_MALFORMED", "batch_id 1 must be a text"),
    (cursors(*(f"{n:03}" for n in range(1001))), "OUTCOME_MALFORMED", "1001 batches requested, maximum 1000"),
    (cursors("001", worker_template_name="nowhere"), "WORKER_INVALID", "'nowhere' is no batch_worker of it"),
    (cursors("001", worker_template_name="end"), "WORKER_INVALID", "'end' is no batch_worker of it"),
    (
        cursors("001", worker_template_name="of_other"),
        "WORKER_INVALID",
        "'of_other' is no batch_worker of it",
    ),
    (cursors("001", worker_template_name=7), "OUTCOME_MALFORMED", "worker_template_name must be a text"),
    (
        {"batch_processing_outcome": {"type": "no_batches", "worker_template_name": "end"}},
        "WORKER_INVALID",
        "'end' is no batch_worker of it",
    ),
]


@pytest.mark.parametrize(("result", "code", "message"), REFUSED)
async def test_an_outcome_that_does_not_add_up_fails_the_batch_and_creates_nothing(
    engine: Engine, hands: Hands, result: object, code: str, message: str
) -> None:
    task = await engine.create(workflow(*STEPS, "other: batchable < end", "of_other: batch_worker < other"))
    await hands.submit("b", result)
    await engine.process()
    assert await engine.states(task) == {"b": "error"}
    assert await engine.state(task) == "blocked_by_failures"
    ((error,),) = await engine.sql("SELECT error FROM tasker.step_results WHERE NOT success")
    assert (error["error_type"], error["retryable"]) == ("batch_outcome_invalid", False)
    assert error["context"] == {"error_code": code}
    assert message in error["message"]
    assert await engine.sql("SELECT 1 FROM tasker.poison_messages") == []
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_inputs_that_are_too_large_are_refused(engine: Engine, hands: Hands) -> None:
    half = "x" * 600_000
    document = batch()
    document["steps"][1]["handler"] = {"callable": "work", "initialization": {"half": half}}
    task = await engine.create(document)
    outcome = split(2)
    outcome["batch_processing_outcome"]["cursor_configs"][1]["start_cursor"] = half
    await hands.succeed("b", result=outcome)
    assert await engine.states(task) == {"b": "error"}
    ((error,),) = await engine.sql("SELECT error FROM tasker.step_results WHERE NOT success")
    assert error["error_type"] == "batch_outcome_invalid"
    assert "takes 12" in error["message"]


async def test_an_obsolete_prefix_is_left_out(engine: Engine, hands: Hands) -> None:
    task = await engine.create(batch())
    await hands.succeed("b", result=cursors("batch_001", "0002"))
    assert set(await edges(engine, task, "c")) == {"w_001", "w_0002"}


# Delivered again


async def test_results_delivered_fifty_times_count_once(engine: Engine, hands: Hands) -> None:
    task = await engine.create(batch(parallelism=2))
    await hands.submit("b", split(4))
    await duplicate_messages(engine, "orchestration_step_judgements", 49)
    await engine.process()
    assert len(await engine.steps(task)) == 7
    assert await in_flight(engine, task) == {"w_001", "w_002"}
    await hands.submit("w_001", {})
    await duplicate_messages(engine, "orchestration_step_results", 49)
    await engine.process()
    assert await in_flight(engine, task) == {"w_002", "w_003"}
    assert await hands.running() == {"w_002", "w_003"}
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


# Many


async def test_a_thousand_instances(database_url: str) -> None:
    async with Engine(database_url, batches=BatchLimits(max_parallel=400)) as engine:
        hands = Hands(engine)
        task = await engine.create(batch(parallelism=1000))
        await hands.succeed("b", result=split(1000))
        assert len(await in_flight(engine, task)) == 400
        assert len(await edges(engine, task, "c")) == 1000
        await hands.finish()
        assert {"w_001", "w_999", "w_1000"} < set(await engine.states(task))
        await assert_each_complete_once(engine, task)
        await assert_nothing_drifted(engine)
