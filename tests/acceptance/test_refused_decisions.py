"""Outcomes of decisions that cannot be carried out, and what operators do about them."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import pytest
from grpc import StatusCode

from tasker.domain.errors import InvalidArgumentError
from tests.support import services
from tests.support.clients import Client, refused
from tests.support.dynamic import Hands, assert_each_complete_once, decide, edges, split, workflow
from tests.support.engine import Engine
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted

BY: dict[str, str] = {"performed_by": "sam", "reason": "the rules changed"}
ROUTES = workflow(
    "above",
    "d: decision < above",
    "a < d",
    "b < d",
    "inner: decision < d",
    "below_inner < inner",
    "joined < a below_inner",
    "beside: decision < above",
    "of_beside < beside",
    "batch: batchable < d",
    "worker: batch_worker < batch",
    "joins_worker: deferred_convergence < worker",
    "c: deferred_convergence < d a b",
    "after < c",
)


@pytest.fixture
def hands(engine: Engine) -> Hands:
    return Hands(engine)


async def newest(engine: Engine, task: UUID, name: str) -> dict[str, Any]:
    """Return a step's newest result as stored."""
    (envelope,) = [step.envelope for step in (await engine.reader.steps(task)).steps if step.name == name]
    assert envelope is not None
    return envelope


async def step_uuid(engine: Engine, task: UUID, name: str) -> UUID:
    return (await engine.steps(task))[name].step_uuid


# Refusals

NO_OUTCOME = "decision 'd' returned no valid decision_point_outcome"


def outcome(value: object) -> dict[str, object]:
    return {"decision_point_outcome": value}


@pytest.mark.parametrize(
    ("result", "code", "message"),
    [
        ({}, "OUTCOME_MISSING", NO_OUTCOME),
        (None, "OUTCOME_MISSING", NO_OUTCOME),
        ("a", "OUTCOME_MISSING", NO_OUTCOME),
        (outcome(None), "OUTCOME_MISSING", NO_OUTCOME),
        (outcome("a"), "OUTCOME_MALFORMED", NO_OUTCOME),
        (outcome({}), "OUTCOME_MALFORMED", NO_OUTCOME),
        (outcome({"type": "all"}), "OUTCOME_MALFORMED", NO_OUTCOME),
        (outcome({"type": "create_steps"}), "OUTCOME_MALFORMED", NO_OUTCOME),
        (outcome({"type": "create_steps", "step_names": "a"}), "OUTCOME_MALFORMED", NO_OUTCOME),
        (outcome({"type": "create_steps", "step_names": ["a", 1]}), "OUTCOME_MALFORMED", NO_OUTCOME),
        (outcome({"type": "create_steps", "step_names": ["a", ""]}), "OUTCOME_MALFORMED", NO_OUTCOME),
        (decide("a", "nowhere"), "STEP_NOT_IN_TEMPLATE", "step 'nowhere' is not in the template"),
        (decide("a", "above"), "INVALID_DESCENDANT", "step 'above' cannot be created by decision 'd'"),
        (decide("d"), "INVALID_DESCENDANT", "step 'd' cannot be created by decision 'd'"),
        (decide("of_beside"), "INVALID_DESCENDANT", "step 'of_beside' cannot be created by decision 'd'"),
        (decide("below_inner"), "INVALID_DESCENDANT", "step 'below_inner' cannot be created by decision 'd'"),
        (decide("worker"), "INVALID_DESCENDANT", "step 'worker' cannot be created by decision 'd'"),
        (decide("c"), "INVALID_DESCENDANT", "step 'c' cannot be created by decision 'd'"),
        (
            decide("a", "joined"),
            "UNRESOLVED_DEPENDENCY",
            "step 'joined' needs 'below_inner', which does not exist",
        ),
    ],
)
async def test_an_outcome_that_cannot_be_carried_out_fails_the_decision_and_creates_nothing(
    engine: Engine, hands: Hands, result: object, code: str, message: str
) -> None:
    task = await engine.create(ROUTES)
    await hands.succeed("above")
    await hands.succeed("beside", result=decide())
    await hands.submit("d", result)
    await engine.process()
    assert await engine.states(task) == {"above": "complete", "beside": "complete", "d": "error"}
    assert await engine.state(task) == "blocked_by_failures"
    stored = await newest(engine, task, "d")
    assert (stored["success"], stored["status"], stored["result"]) == (False, "error", {})
    assert stored["error"]["error_type"] == "decision_outcome_invalid"
    assert stored["error"]["message"].partition(": ")[0] == message  # behind it, what is wrong
    assert stored["error"]["retryable"] is False
    assert stored["error"]["context"] == {"error_code": code}
    assert stored["metadata"]["error_code"] == code
    assert await engine.messages("orchestration_step_judgements") == 0
    assert await engine.sql("SELECT 1 FROM tasker.poison_messages") == []
    ((submitted, attempts),) = await engine.sql(
        "SELECT r.result, s.attempts FROM tasker.step_results r JOIN tasker.workflow_steps s USING (step_uuid) "
        "WHERE s.name = 'd' AND r.success"
    )
    assert (submitted, attempts) == (result, 1)  # what it did return is kept, and it is not tried again
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_what_a_refused_outcome_says_stays_short(engine: Engine, hands: Hands) -> None:
    task = await engine.create(ROUTES)
    await hands.succeed("above")
    await hands.succeed("d", result=decide("x" * 100_000))
    stored = await newest(engine, task, "d")
    assert stored["error"]["context"] == {"error_code": "STEP_NOT_IN_TEMPLATE"}
    assert len(stored["error"]["message"]) <= 500


async def test_a_decision_that_fails_is_tried_again_like_any_step(engine: Engine, hands: Hands) -> None:
    task = await engine.create(ROUTES)
    await hands.succeed("above")
    await hands.fail("d", retryable=True, result=decide("b"))
    assert "b" not in await engine.states(task)
    await engine.move_clock(60)
    await engine.timers.tick()
    await hands.succeed("d", result=decide("a"))
    assert (await engine.steps(task))["d"].attempts == 2
    assert set(await edges(engine, task, "c")) == {"d", "a"}
    await hands.finish(beside=decide())
    await assert_each_complete_once(engine, task)


# Operators


async def refused_decision(engine: Engine, hands: Hands) -> tuple[UUID, UUID]:
    """Return a task that a refused decision blocks, and the decision."""
    task = await engine.create(ROUTES)
    await hands.succeed("above")
    await hands.succeed("beside", result=decide())
    await hands.succeed("d", result=decide("nowhere"))
    assert await engine.state(task) == "blocked_by_failures"
    return task, await step_uuid(engine, task, "d")


async def test_a_reset_decision_may_decide_better(engine: Engine, hands: Hands) -> None:
    task, decision = await refused_decision(engine, hands)
    await engine.operators.reset_for_retry(task, decision, **BY)
    assert (await engine.states(task))["d"] == "enqueued"
    await hands.succeed("d", result=decide("a"))
    assert (await newest(engine, task, "d"))["result"] == decide("a")
    await hands.finish()
    assert set(await engine.states(task)) == {"above", "beside", "d", "a", "c", "after"}
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_an_operator_may_correct_the_outcome(engine: Engine, hands: Hands) -> None:
    task, decision = await refused_decision(engine, hands)
    await engine.operators.complete_manually(task, decision, result=decide("b"), **BY)
    assert await engine.states(task) == {
        "above": "complete", "beside": "complete", "d": "complete",
        "b": "enqueued", "c": "pending", "after": "pending",
    }  # fmt: skip
    step = await hands.take("b")
    assert step.dependencies["d"] == decide("b")
    await engine.succeed(step)
    await engine.process()
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


@pytest.mark.parametrize(
    ("result", "code"), [(decide("worker"), "INVALID_DESCENDANT"), ({}, "OUTCOME_MISSING"), (None, "OUTCOME_MISSING")]
)  # fmt: skip
async def test_an_operators_outcome_keeps_to_the_same_rules(
    engine: Engine, hands: Hands, result: object, code: str
) -> None:
    task, decision = await refused_decision(engine, hands)
    before = await engine.sql("SELECT xmin::text, * FROM tasker.workflow_steps ORDER BY step_uuid")
    with pytest.raises(InvalidArgumentError) as refusal:
        await engine.operators.complete_manually(task, decision, result=result, **BY)
    assert [violation.field for violation in refusal.value.violations] == ["result"]
    assert refusal.value.violations[0].description.startswith(f"{code}: ")
    assert await engine.sql("SELECT xmin::text, * FROM tasker.workflow_steps ORDER BY step_uuid") == before
    assert await engine.state(task) == "blocked_by_failures"


async def test_a_resolved_decision_takes_no_branch(engine: Engine, hands: Hands) -> None:
    task, decision = await refused_decision(engine, hands)
    await engine.operators.resolve_manually(task, decision, **BY)
    assert await edges(engine, task, "c") == {"d": "provides"}
    step = await hands.take("c")
    assert "d" not in step.dependencies
    await engine.succeed(step)
    await engine.process()
    await hands.finish()
    assert await engine.state(task) == "complete"
    assert (await engine.states(task))["d"] == "resolved_manually"
    assert set(await engine.states(task)) == {"above", "beside", "d", "c", "after"}
    await assert_nothing_drifted(engine)


async def test_a_decision_completed_while_it_runs_is_decided_once(engine: Engine, hands: Hands) -> None:
    task = await engine.create(ROUTES)
    await hands.succeed("above")
    running = await hands.take("d")
    await engine.operators.complete_manually(task, running.step_uuid, result=decide("a"), **BY)
    assert await engine.succeed(running, result=decide("b")) == set()
    await hands.finish(beside=decide())
    assert "b" not in await engine.states(task)
    await assert_each_complete_once(engine, task)


async def test_a_decision_completed_before_its_turn_lets_its_branches_begin(
    engine: Engine, hands: Hands
) -> None:
    task = await engine.create(ROUTES)
    decision = await step_uuid(engine, task, "d")
    await engine.operators.complete_manually(task, decision, result=decide("a"), **BY)
    assert await hands.running() == {"above", "a"}
    await hands.finish(beside=decide())
    await assert_each_complete_once(engine, task)
    await assert_nothing_drifted(engine)


# Late results


async def test_a_decision_of_a_cancelled_task_creates_nothing(engine: Engine, hands: Hands) -> None:
    task = await engine.create(ROUTES)
    await hands.succeed("above")
    await hands.submit("d", decide("a"))
    assert (await engine.operators.cancel(task)).success
    await engine.process()
    assert await engine.states(task) == {"above": "complete", "d": "cancelled", "beside": "cancelled"}
    assert await engine.state(task) == "cancelled"
    assert await engine.messages("worker_test_queue") <= 1  # that of `beside`, which nobody can claim
    assert await engine.claim() == []


@pytest.mark.parametrize("kind", ["decision", "batch"])
async def test_what_an_expanding_step_leads_to_waits_while_its_task_is_in_error(
    engine: Engine, hands: Hands, kind: str
) -> None:
    task = await engine.create(
        workflow(
            "above",
            "broken",
            "d: decision < above",
            "a < d",
            "b: batchable < above",
            "w: batch_worker < b",
            "c: deferred_convergence < d a w",
        )
    )
    first, second = ("d", "b") if kind == "decision" else ("b", "d")
    outcomes = {"d": decide("a"), "b": split(2)}
    await hands.succeed("above")
    await hands.fail("broken")
    await hands.submit(first, outcomes[first])
    await give_up(engine, task)
    await engine.process()
    added = {"a"} if kind == "decision" else {"w_001", "w_002"}
    states = await engine.states(task)
    assert {name for name, state in states.items() if state == "pending"} == added
    assert states[first] == "complete"
    assert await engine.state(task) == "error"
    await assert_nothing_drifted(engine)

    await engine.operators.reset_for_retry(task, await step_uuid(engine, task, "broken"), **BY)
    assert await engine.state(task) == "steps_in_process"
    assert await hands.running() == {"broken", second, *added}
    await hands.finish(**cast("dict[str, object]", outcomes))
    assert set(await edges(engine, task, "c")) == {"d", "a", "w_001", "w_002"}
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)


async def give_up(engine: Engine, task: UUID) -> None:
    """Leave a task in `error`, as a detector or a give-up does while its steps still run."""
    await engine.sql(
        "WITH moved AS (UPDATE tasker.tasks t SET state = 'error', terminal_at = tasker.now(), wake_at = NULL, "
        "sort_key = t.sort_key + 1 FROM tasker.tasks o WHERE o.task_uuid = t.task_uuid AND t.task_uuid = %s "
        "RETURNING t.task_uuid, t.sort_key, o.state) "
        "INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, created_at) "
        "SELECT task_uuid, sort_key, state, 'error', tasker.now() FROM moved RETURNING 1",
        task,
    )


# Switched off


@pytest.mark.parametrize(
    ("setting", "steps", "message"),
    [
        (
            "decisions_enabled",
            ["a", "d: decision < a", "b < d"],
            "template 'test/workflow:1.0.0' contains decision steps but decision processing is disabled",
        ),
        (
            "batches_enabled",
            ["b: batchable", "w: batch_worker < b"],
            "template 'test/workflow:1.0.0' contains batchable steps but batch processing is disabled",
        ),
    ],
)
async def test_a_template_of_what_is_disabled_is_refused(
    database_url: str, engine: Engine, setting: str, steps: list[str], message: str
) -> None:
    template = await engine.register(workflow(*steps))
    await engine.register(workflow("a") | {"name": "plain"})
    async with (
        services.orchestration(database_url, **{setting: False}) as service,
        Client(service.address) as client,
    ):
        refusal = await refused(client.create())
        assert (refusal.code, refusal.message) == (StatusCode.FAILED_PRECONDITION, message)
        assert await engine.sql("SELECT 1 FROM tasker.tasks") == []
        await client.create(name="plain")
    assert (await engine.request(template)).task.state == "steps_in_process"  # where it is enabled
