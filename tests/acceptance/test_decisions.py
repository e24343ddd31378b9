"""Decisions create the steps they name, atomically with their completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasker.domain.templates.expansion import DecisionLimits
from tests.support.dynamic import Hands, assert_each_complete_once, decide, edges, split, workflow
from tests.support.engine import Engine
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted

APPROVAL = workflow(
    "validate",
    "route: decision < validate",
    "auto < route",
    "manager < route",
    "finance < route",
    "finalize: deferred_convergence < auto manager finance",
    "notify < finalize",
)
#: Two levels of decisions and one convergence that spans both.
TIERS = workflow(
    "assess",
    "primary: decision < assess",
    "emergency < primary",
    "standard < primary",
    "senior < primary",
    "compliance: decision < primary senior",
    "legal < compliance",
    "fraud < compliance",
    "finalize: deferred_convergence < primary emergency standard senior compliance legal fraud",
    "archive < finalize",
)


@pytest.fixture
def hands(engine: Engine) -> Hands:
    return Hands(engine)


# Branches


@pytest.mark.parametrize("chosen", [["auto"], ["manager", "finance"], ["auto", "manager", "finance"]])
async def test_only_chosen_branches_exist(engine: Engine, hands: Hands, chosen: Sequence[str]) -> None:
    task = await engine.create(APPROVAL)
    assert await engine.states(task) == {"validate": "enqueued", "route": "pending"}
    await hands.succeed("validate")
    await hands.succeed("route", result=decide(*chosen))
    assert await engine.states(task) == {
        "validate": "complete", "route": "complete", "finalize": "pending", "notify": "pending",
        **dict.fromkeys(chosen, "enqueued"),
    }  # fmt: skip
    assert await edges(engine, task, "finalize") == dict.fromkeys(chosen, "provides")
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_a_convergence_runs_after_the_last_of_its_branches(engine: Engine, hands: Hands) -> None:
    task = await engine.create(APPROVAL)
    await hands.succeed("validate")
    await hands.succeed("route", result=decide("manager", "finance"))
    await hands.succeed("manager")
    assert await hands.running() == {"finance"}
    await hands.succeed("finance")
    assert await hands.running() == {"finalize"}
    await hands.finish()
    await assert_each_complete_once(engine, task)


async def test_a_name_given_twice_counts_once(engine: Engine, hands: Hands) -> None:
    task = await engine.create(APPROVAL)
    await hands.succeed("validate")
    await hands.succeed("route", result=decide("auto", "auto"))
    await hands.finish()
    assert len(await engine.steps(task)) == 5
    await assert_each_complete_once(engine, task)


async def test_only_decisions_decide(engine: Engine, hands: Hands) -> None:
    task = await engine.create(APPROVAL)
    await hands.succeed("validate", result=decide("auto"))
    assert await engine.states(task) == {"validate": "complete", "route": "enqueued"}


# No branches


@pytest.mark.parametrize("outcome", [{"type": "no_branches"}, {"type": "create_steps", "step_names": []}])
async def test_without_branches_a_convergence_that_lists_the_decision_runs_once(
    engine: Engine, hands: Hands, outcome: object
) -> None:
    task = await engine.create(
        workflow("a", "d: decision < a", "b < d", "c: deferred_convergence < d b", "e < c")
    )
    await hands.succeed("a")
    with capture_logs() as logs:
        await hands.succeed("d", result={"decision_point_outcome": outcome})
    assert await edges(engine, task, "c") == {"d": "provides"}
    await hands.finish()
    assert set(await engine.states(task)) == {"a", "d", "c", "e"}
    await assert_each_complete_once(engine, task)
    empty_list = outcome != {"type": "no_branches"}
    assert [log["event"] for log in logs] == (["outcome_tolerated"] if empty_list else [])


async def test_without_branches_a_convergence_of_branches_only_never_exists(
    engine: Engine, hands: Hands
) -> None:
    task = await engine.create(APPROVAL)
    await hands.succeed("validate")
    await hands.succeed("route", result=decide())
    assert set(await engine.states(task)) == {"validate", "route"}
    await assert_each_complete_once(engine, task)
    await assert_nothing_drifted(engine)


# Nested decisions


async def test_what_spans_two_decisions_appears_after_the_inner_one_and_waits_for_all(
    engine: Engine, hands: Hands
) -> None:
    task = await engine.create(TIERS)
    await hands.succeed("assess")
    await hands.succeed("primary", result=decide("senior"))
    assert set(await engine.states(task)) == {"assess", "primary", "senior", "compliance"}
    await hands.succeed("senior")
    await hands.succeed("compliance", result=decide("legal", "fraud"))
    assert set(await edges(engine, task, "finalize")) == {
        "primary", "senior", "compliance", "legal", "fraud",
    }  # fmt: skip
    await hands.succeed("legal")
    assert await hands.running() == {"fraud"}
    await hands.succeed("fraud")
    assert await hands.running() == {"finalize"}
    await hands.finish()
    await assert_each_complete_once(engine, task)


async def test_a_path_around_the_inner_decision_is_short(engine: Engine, hands: Hands) -> None:
    task = await engine.create(TIERS)
    await hands.succeed("assess")
    await hands.succeed("primary", result=decide("emergency"))
    assert set(await edges(engine, task, "finalize")) == {"primary", "emergency"}
    await hands.finish()
    assert set(await engine.states(task)) == {"assess", "primary", "emergency", "finalize", "archive"}
    await assert_each_complete_once(engine, task)


async def test_an_inner_decision_without_branches_lets_the_rest_go_on(engine: Engine, hands: Hands) -> None:
    task = await engine.create(TIERS)
    await hands.finish(primary=decide("senior"), compliance=decide())
    assert set(await edges(engine, task, "finalize")) == {"primary", "senior", "compliance"}
    await assert_each_complete_once(engine, task)


async def test_a_batch_behind_a_decision_and_a_step_behind_the_batch(engine: Engine, hands: Hands) -> None:
    task = await engine.create(
        workflow(
            "start",
            "d: decision < start",
            "b: batchable < d",
            "w: batch_worker < b",
            "other < d",
            "c: deferred_convergence < w other",
            "end < c",
        )
    )
    await hands.succeed("start")
    await hands.succeed("d", result=decide("b"))
    assert set(await engine.states(task)) == {"start", "d", "b"}
    await hands.succeed("b", result=split(3))
    assert await hands.running() == {"w_001", "w_002", "w_003"}
    await hands.finish()
    assert set(await engine.states(task)) == {"start", "d", "b", "w_001", "w_002", "w_003", "c", "end"}
    await assert_each_complete_once(engine, task)
    await assert_history_is_whole(engine, task)
    await assert_nothing_drifted(engine)


async def test_a_decision_behind_a_batch_decides_too(engine: Engine, hands: Hands) -> None:
    task = await engine.create(
        workflow(
            "b: batchable",
            "w: batch_worker < b",
            "c: deferred_convergence < w",
            "d: decision < c",
            "x < d",
            "y < d",
            "e: deferred_convergence < c x y",
        )
    )
    await hands.finish(b=split(2), d=decide("y"))
    assert set(await engine.states(task)) == {"b", "w_001", "w_002", "c", "d", "y", "e"}
    assert set(await edges(engine, task, "e")) == {"c", "y"}
    await assert_each_complete_once(engine, task)


# Two decisions


TWO = workflow("s", "d1: decision < s", "d2: decision < s", "a < d1", "b < d2",
               "c: deferred_convergence < a b", "joined < a b")  # fmt: skip


@pytest.mark.parametrize(("first", "second"), [(["a"], ["b"]), ([], ["b"]), (["a"], [])])
async def test_two_decisions_judged_together_share_one_convergence(
    engine: Engine, hands: Hands, first: list[str], second: list[str]
) -> None:
    task = await engine.create(TWO)
    await hands.succeed("s")
    await hands.submit("d1", decide(*first))
    await hands.submit("d2", decide(*second))
    await engine.judgements.tick()
    assert set(await edges(engine, task, "c")) == {*first, *second}
    assert set(await edges(engine, task, "joined")) == ({"a", "b"} if first and second else set())
    await hands.finish()
    await assert_each_complete_once(engine, task)
    await assert_nothing_drifted(engine)


async def test_of_two_decisions_judged_together_a_refused_one_leads_to_nothing(
    engine: Engine, hands: Hands
) -> None:
    task = await engine.create(TWO)
    await hands.succeed("s")
    await hands.submit("d1", decide("a"))
    await hands.submit("d2", decide("nowhere"))
    await engine.judgements.tick()
    assert await engine.states(task) == {"s": "complete", "d1": "complete", "d2": "error", "a": "enqueued"}
    await hands.succeed("a")
    assert await engine.state(task) == "blocked_by_failures"
    await assert_nothing_drifted(engine)


# What handlers see


async def test_dynamic_steps_see_every_ancestor_and_no_sibling(engine: Engine, hands: Hands) -> None:
    await engine.create(APPROVAL)
    await hands.succeed("validate", result={"is": "validate"})
    await hands.succeed("route", result=decide("manager", "finance") | {"is": "route"})
    manager = await hands.take("manager")
    assert manager.dependencies == {
        "validate": {"is": "validate"},
        "route": decide("manager", "finance") | {"is": "route"},
    }
    await engine.succeed(manager, result={"is": "manager"})
    await engine.process()
    finance = await hands.take("finance")
    assert set(finance.dependencies) == {"validate", "route"}
    await engine.succeed(finance, result={"is": "finance"})
    await engine.process()
    finalize = await hands.take("finalize")
    assert set(finalize.dependencies) == {"validate", "route", "manager", "finance"}
    await engine.succeed(finalize)
    await engine.process()
    notify = await hands.take("notify")
    assert set(notify.dependencies) == {"validate", "route", "manager", "finance", "finalize"}


async def test_dynamic_steps_are_set_up_as_their_template_says(engine: Engine, hands: Hands) -> None:
    document = workflow(
        "a", "d: decision < a", "b < d",
        b={"handler": {"callable": "work", "initialization": {"level": 2}}, "timeout_seconds": 7,
           "retry": {"max_attempts": 4, "backoff": "linear", "backoff_base_ms": 200, "max_backoff_ms": 5000}},
    )  # fmt: skip
    await engine.create(document)
    await hands.succeed("a")
    await hands.succeed("d", result=decide("b"))
    step = await hands.take("b")
    assert (step.inputs, step.timeout_seconds, step.max_attempts) == ({"level": 2}, 7, 4)
    ((backoff, base, cap),) = await engine.sql(
        "SELECT backoff, backoff_base_ms, max_backoff_ms FROM tasker.workflow_steps WHERE name = 'b'"
    )
    assert (backoff, base, cap) == ("linear", 200, 5000)


# Limits


async def test_51_names_warn_and_101_are_refused(engine: Engine, hands: Hands) -> None:
    branches = [f"b{n}" for n in range(101)]
    document = workflow("a", "d: decision < a", *(f"{name} < d" for name in branches))
    for count, events in (
        (50, []),
        (51, ["decision_goes_far"]),
        (100, ["decision_goes_far"]),
        (101, ["outcome_refused"]),
    ):
        task = await engine.create(document)
        await hands.succeed("a")
        with capture_logs() as logs:
            await hands.succeed("d", result=decide(*branches[:count]))
        told = of_decisions(logs)
        assert [log["event"] for log in told] == events
        created = len(await engine.steps(task)) - 2
        assert created == (count if count <= 100 else 0)
        await hands.finish()
    assert told[0]["error_code"] == "TOO_MANY_STEPS"
    assert told[0]["problem"] == "101 steps requested, maximum 100"
    assert (await engine.states(task))["d"] == "error"


async def test_decision_21_of_a_chain_is_refused_and_the_11th_warns(engine: Engine, hands: Hands) -> None:
    document = workflow("d0", *(f"d{n}: decision < d{n - 1}" for n in range(1, 22)), "end < d21")
    task = await engine.create(document)
    await hands.succeed("d0")
    for depth in range(1, 21):
        with capture_logs() as logs:
            await hands.succeed(f"d{depth}", result=decide(f"d{depth + 1}"))
        assert [log["event"] for log in logs] == (["decision_goes_far"] if depth > 10 else [])
    with capture_logs() as logs:
        await hands.succeed("d21", result=decide("end"))
    assert [(log["error_code"], log["problem"]) for log in of_decisions(logs)] == [
        ("DEPTH_EXCEEDED", "decision depth 21, maximum 20")
    ]
    assert await engine.state(task) == "blocked_by_failures"
    assert len(await engine.steps(task)) == 22


def of_decisions(logs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out what every step that fails is told of."""
    return [log for log in logs if log["event"] not in ("step_failed_for_good", "task_blocked")]


async def test_an_orchestrator_may_set_its_own_limits(database_url: str) -> None:
    async with Engine(database_url, decisions=DecisionLimits(max_steps=1)) as engine:
        hands = Hands(engine)
        task = await engine.create(APPROVAL)
        await hands.succeed("validate")
        with capture_logs() as logs:
            await hands.succeed("route", result=decide("auto", "manager"))
        assert [log["problem"] for log in of_decisions(logs)] == ["2 steps requested, maximum 1"]
        assert await engine.states(task) == {"validate": "complete", "route": "error"}
