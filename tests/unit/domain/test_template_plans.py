"""Templates as plans: order, the initial set, environments, digests."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain.durations import parse_duration
from tasker.domain.retry import Backoff, OnWorkerLost, RetryPolicy
from tasker.domain.templates.document import FailureStrategy, StepType, Template, digest
from tasker.domain.templates.environments import resolve
from tasker.domain.templates.findings import Code
from tasker.domain.templates.graph import Graph, Node
from tasker.domain.templates.plan import PlannedStep, plan
from tasker.domain.templates.validation import parse, validate
from tests.unit.domain.examples import (
    APPROVAL,
    CSV,
    a_step,
    a_template,
    batch_worker,
    batchable,
    convergence,
)


def planned(document: dict[str, Any], environment: str | None = None) -> dict[str, PlannedStep]:
    return {step.name: step for step in plan(parse(document), environment)}


def names(steps: dict[str, PlannedStep], positions: tuple[int, ...]) -> set[str]:
    by_position = [step.name for step in steps.values()]
    return {by_position[position] for position in positions}


def test_a_plan_says_everything_a_step_row_needs() -> None:
    document = a_template(
        a_step(
            "charge",
            handler={
                "callable": "shop.Charge",
                "method": "refund",
                "resolver": "r",
                "initialization": {"a": 1},
            },
            retry={"max_attempts": 5, "backoff": "linear", "backoff_base_ms": 200, "max_backoff_ms": 2000},
            timeout_seconds=45,
            on_worker_lost="fail",
        )
    )
    [step] = plan(parse(document))
    assert step == PlannedStep(
        position=0,
        name="charge",
        step_type=StepType.STANDARD,
        callable="shop.Charge",
        method="refund",
        resolver="r",
        initialization={"a": 1},
        retryable=True,
        max_attempts=5,
        backoff=Backoff.LINEAR,
        backoff_base_ms=200,
        max_backoff_ms=2000,
        timeout_seconds=45,
        on_worker_lost=OnWorkerLost.FAIL,
        initial=True,
        parent_positions=(),
        ancestor_positions=(),
        batch_config=None,
    )


def test_the_defaults_of_a_step() -> None:
    [step] = plan(parse(a_template({"name": "a", "handler": "shop.a"})))
    assert (step.callable, step.method, step.resolver, step.initialization) == ("shop.a", "call", None, {})
    assert RetryPolicy() == RetryPolicy(
        step.retryable, step.max_attempts, step.backoff, step.backoff_base_ms, step.max_backoff_ms
    )
    assert step.timeout_seconds is None
    assert step.on_worker_lost is OnWorkerLost.RETRY


def test_what_the_types_of_steps_mean() -> None:
    assert {kind.value for kind in StepType if kind.adds_steps} == {"decision", "batchable"}
    assert {kind.value for kind in StepType if kind.is_always_dynamic} == {
        "batch_worker",
        "deferred_convergence",
    }


def test_a_step_may_differ_from_its_template_about_lost_workers() -> None:
    steps = planned(a_template(a_step("a"), a_step("b", "a", on_worker_lost="retry"), on_worker_lost="fail"))
    assert steps["a"].on_worker_lost is OnWorkerLost.FAIL
    assert steps["b"].on_worker_lost is OnWorkerLost.RETRY


def test_parents_come_first_and_otherwise_the_document_decides() -> None:
    steps = planned(a_template(a_step("d", "b", "c"), a_step("c", "a"), a_step("b", "a"), a_step("a")))
    assert list(steps) == ["a", "c", "b", "d"]
    assert names(steps, steps["d"].parent_positions) == {"b", "c"}
    assert names(steps, steps["d"].ancestor_positions) == {"a", "b", "c"}


def test_what_a_decision_leads_to_is_not_created_with_the_task() -> None:
    steps = planned(APPROVAL)
    assert {name for name, step in steps.items() if step.initial} == {"validate", "route"}


def test_what_a_batch_leads_to_is_not_created_with_the_task() -> None:
    steps = planned(CSV)
    assert {name for name, step in steps.items() if step.initial} == {"analyze"}


def test_nothing_behind_a_convergence_is_created_with_the_task() -> None:
    steps = planned(
        a_template(
            a_step("start"),
            batchable("split", "start"),
            batch_worker("w", "split"),
            convergence("merge", "w"),
            a_step("report", "merge"),
            a_step("beside", "split"),
        )
    )
    assert {name for name, step in steps.items() if step.initial} == {"start", "split", "beside"}


def test_a_batch_is_run_as_its_worker_says_else_as_its_batchable_says() -> None:
    def configs(on_batchable: Any, on_worker: Any) -> list[tuple[str, int]]:
        steps = planned(
            a_template(
                batchable("split", batch_config=on_batchable),
                batch_worker("w", "split", batch_config=on_worker),
                convergence("merge", "w"),
            )
        )
        assert steps["merge"].batch_config is None
        found = [steps[name].batch_config for name in ("split", "w")]
        return [(config.worker_template, config.batch_size) for config in found if config]

    own, other = {"worker_template": "w", "batch_size": 5}, {"worker_template": "w", "batch_size": 7}
    assert configs(own, None) == [("w", 5)] * 2
    assert configs(own, other) == [("w", 7)] * 2
    assert configs(None, other) == [("w", 7)] * 2
    assert configs(None, None) == [("w", 1000)] * 2
    assert planned(CSV)["analyze"].batch_config is not None
    config = planned(CSV)["load_rows"].batch_config
    assert config is not None
    assert config.failure_strategy is FailureStrategy.FAIL_FAST


def test_a_batchable_may_name_its_worker_by_hand() -> None:
    handler = {"callable": "x", "initialization": {"worker_template_name": "v"}}
    document = a_template(
        batchable("split", handler=handler), batch_worker("v", "split"), batch_worker("w", "split")
    )
    config = planned(document)["split"].batch_config
    assert config is not None
    assert config.worker_template == "v"


def test_results_are_seen_at_most_fifty_levels_down() -> None:
    steps = planned(a_template(a_step("s0"), *[a_step(f"s{n}", f"s{n - 1}") for n in range(1, 60)]))
    assert len(steps["s59"].ancestor_positions) == 50
    assert names(steps, steps["s59"].ancestor_positions) == {f"s{n}" for n in range(9, 59)}


OVERRIDDEN = a_template(
    a_step(
        "a",
        handler={"callable": "x", "initialization": {"url": "prod", "deep": {"k": 1}, "kept": True}},
        retry={"max_attempts": 5, "backoff_base_ms": 2000, "max_backoff_ms": 10_000},
        timeout_seconds=60,
    ),
    a_step("b", "a"),
    environments={
        "test": {
            "steps": [
                {"name": "ALL", "timeout_seconds": 5, "retry": {"max_attempts": 2}},
                {
                    "name": "a",
                    "timeout_seconds": 7,
                    "handler": {"initialization": {"url": "test", "deep": {}}},
                },
            ]
        },
        "slow": {"steps": [{"name": "a", "retry": {"backoff_base_ms": 20_000}}]},
        "empty": {},
    },
)


def test_an_environment_overrides_in_order_and_merges_retry_by_key() -> None:
    steps = planned(OVERRIDDEN, "test")
    assert (steps["a"].max_attempts, steps["a"].backoff_base_ms, steps["a"].max_backoff_ms) == (
        2,
        2000,
        10_000,
    )
    assert (steps["b"].max_attempts, steps["b"].backoff_base_ms) == (2, 1000)
    assert (steps["a"].timeout_seconds, steps["b"].timeout_seconds) == (7, 5)
    assert steps["a"].initialization == {"url": "test", "deep": {}, "kept": True}
    assert steps["b"].initialization == {}


def test_other_environments_change_nothing() -> None:
    template = parse(OVERRIDDEN)
    assert plan(template) == plan(template, "production") == plan(template, "empty")
    assert resolve(template, None) is template
    assert resolve(template, "") is template


def test_an_environment_that_raises_the_base_takes_the_cap_along() -> None:
    step = planned(OVERRIDDEN, "slow")["a"]
    assert (step.backoff_base_ms, step.max_backoff_ms) == (20_000, 20_000)


def test_equal_meaning_is_an_equal_digest() -> None:
    base = digest(parse(a_template(a_step("a", retry={"max_attempts": 3}))))
    assert len(base) == 32
    reordered = dict(reversed(a_template(a_step("a", retry={"limit": 3, "backoff": "exponential"})).items()))
    assert digest(parse(reordered)) == base
    assert digest(parse(a_template(a_step("a")))) == base
    stored = Template.model_validate(parse(a_template(a_step("a"))).to_json())
    assert digest(stored) == base
    assert digest(stored.model_copy(update={"loaded_from": "elsewhere.yaml"})) == base


@pytest.mark.parametrize(
    "changed",
    [
        a_template(a_step("a"), description="x"),
        a_template(a_step("a"), version="1.2.1"),
        a_template(a_step("a", retry={"max_attempts": 4})),
        a_template(a_step("a", composition={"x": 1})),
        a_template(a_step("a", publishes_events=[{"name": "a.b", "schema": {"type": "object"}}])),
    ],
)
def test_another_meaning_is_another_digest(changed: dict[str, Any]) -> None:
    assert digest(parse(changed)) != digest(parse(a_template(a_step("a"))))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("45m", 2700),
        ("12h", 43_200),
        ("12hr", 43_200),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 1d ", 86_400),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 weeks", "-5s", "1.5h", "0s", "500ms", "5s!", "99999w"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}'"):
        parse_duration(text)


# --- Properties ---


@st.composite
def graphs(draw: st.DrawFn, *, acyclic: bool) -> Graph:
    """Draw steps of any type with any edges; acyclic ones point backwards in a hidden order."""
    count = draw(st.integers(1, 12))
    labels = [f"s{index}" for index in range(count)]
    nodes = {}
    for index, name in enumerate(labels):
        pool = labels[:index] if acyclic else [label for label in labels if label != name]
        parents = draw(st.lists(st.sampled_from(pool), unique=True, max_size=3)) if pool else []
        nodes[name] = Node(name, draw(st.sampled_from(StepType)), tuple(parents))
    order = draw(st.permutations(labels))
    return Graph({name: nodes[name] for name in order})


@given(graphs(acyclic=True))
def test_an_acyclic_graph_is_ordered_parents_first(graph: Graph) -> None:
    order = graph.topological_order()
    assert sorted(order) == sorted(graph.nodes)
    for node in graph.nodes.values():
        assert all(order.index(parent) < order.index(node.name) for parent in node.parents)
    assert graph.cycles() == []


@given(graphs(acyclic=False))
def test_a_graph_is_ordered_or_its_cycles_are_shown(graph: Graph) -> None:
    on_a_cycle = {name for name in graph.nodes if name in graph.descendants(name)}
    cycles = graph.cycles()
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(parent in graph.nodes[child].parents for parent, child in pairwise(cycle))
    assert {name for cycle in cycles for name in cycle} == on_a_cycle
    if on_a_cycle:
        with pytest.raises(ValueError, match="cycle"):
            graph.topological_order()
    else:
        assert len(graph.topological_order()) == len(graph.nodes)


@given(graphs(acyclic=True))
def test_ancestors_and_descendants_mirror_each_other(graph: Graph) -> None:
    for name in graph.nodes:
        for above, distance in graph.ancestors(name).items():
            assert graph.descendants(above)[name] == distance
        shallow = graph.ancestors(name, depth=1)
        assert set(shallow) == set(graph.nodes[name].parents)


@given(graphs(acyclic=True))
def test_what_is_created_with_the_task_needs_nothing_else(graph: Graph) -> None:
    initial = graph.initial_set()
    for name in initial:
        assert set(graph.nodes[name].parents) <= initial
        types_above = {graph.nodes[above].type for above in graph.ancestors(name)}
        assert not types_above & {StepType.DECISION, StepType.BATCH_WORKER, StepType.DEFERRED_CONVERGENCE}
    for name in graph.nodes.keys() - initial:
        dynamic = graph.nodes[name].type in (StepType.BATCH_WORKER, StepType.DEFERRED_CONVERGENCE)
        types_above = {graph.nodes[above].type for above in graph.ancestors(name)}
        assert dynamic or types_above & {
            StepType.DECISION,
            StepType.BATCH_WORKER,
            StepType.DEFERRED_CONVERGENCE,
        }


@given(graphs(acyclic=False), st.randoms(use_true_random=False))
def test_validation_never_fails_and_what_is_valid_can_be_planned(
    graph: Graph, shuffle: random.Random
) -> None:
    steps = [a_step(node.name, *node.parents, type=node.type.value) for node in graph.nodes.values()]
    document = a_template(*steps)
    report = validate(document)
    assert report.has_cycles == bool(graph.cycles())
    if report.template is None:
        return
    planned_steps = plan(report.template)
    assert [step.position for step in planned_steps] == list(range(len(steps)))
    for step in planned_steps:
        assert all(parent < step.position for parent in step.parent_positions)
        assert set(step.parent_positions) <= set(step.ancestor_positions)
    shuffle.shuffle(steps)
    again = validate(a_template(*steps))
    assert sorted(f.code for f in again.findings if f.code is not Code.STRADDLING_JOIN) == sorted(
        f.code for f in report.findings if f.code is not Code.STRADDLING_JOIN
    )


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner),
    max_leaves=8,
)
KEYS = [
    "name",
    "type",
    "handler",
    "retry",
    "dependencies",
    "publishes_events",
    "batch_config",
    "result_schema",
]
TOP = ["name", "version", "namespace", "input_schema", "environments", "lifecycle", "domain_events", "ttl"]


@given(
    st.dictionaries(st.sampled_from(TOP), json_like),
    st.lists(st.dictionaries(st.sampled_from(KEYS), json_like) | json_like, max_size=3),
)
def test_validation_survives_anything(top: dict[str, Any], steps: list[Any]) -> None:
    report = validate(a_template() | top | {"steps": steps})
    assert report.valid == (not report.errors)
    assert report.valid == (report.template is not None)
