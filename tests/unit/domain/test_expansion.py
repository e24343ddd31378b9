"""Which steps decisions and batches add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain.templates.document import StepType
from tasker.domain.templates.expansion import ExistingStep, Expansion, NewStep, OutcomeRefusedError
from tasker.domain.templates.graph import Graph, Node

TYPES = {
    "d": StepType.DECISION, "b": StepType.BATCHABLE, "w": StepType.BATCH_WORKER, "c": StepType.DEFERRED_CONVERGENCE,
}  # fmt: skip


def graph(**parents: Sequence[str]) -> Graph:
    """Return a graph; the letters before a name's first underscore and digits tell its type: d, b, w, c or a step."""
    return Graph(
        {
            name: Node(name, TYPES.get(name.rstrip("0123456789"), StepType.STANDARD), tuple(above))
            for name, above in parents.items()
        }
    )


def present(**finished: bool) -> list[ExistingStep]:
    return [ExistingStep(name, name, is_finished) for name, is_finished in finished.items()]


def parents_of(steps: Sequence[NewStep]) -> Mapping[str, tuple[str, ...]]:
    return {step.name: step.parents for step in steps}


APPROVAL = graph(
    start=[],
    d=["start"],
    auto=["d"],
    manager=["d"],
    finance=["d"],
    c=["auto", "manager", "finance"],
    end=["c"],
)
AT_D = present(start=True, d=True)


def test_a_convergence_waits_for_the_branches_that_exist() -> None:
    steps = Expansion(APPROVAL, AT_D).choose("d", ["auto", "finance"])
    assert parents_of(steps) == {"auto": ("d",), "finance": ("d",), "c": ("auto", "finance"), "end": ("c",)}


def test_the_chain_behind_a_chosen_branch_appears_and_others_do_not() -> None:
    chain = graph(d=[], a1=["d"], a2=["a1"], a3=["a2"], x1=["d"], x2=["x1"])
    steps = Expansion(chain, present(d=True)).choose("d", ["a1"])
    assert parents_of(steps) == {"a1": ("d",), "a2": ("a1",), "a3": ("a2",)}


def test_without_branches_a_convergence_that_lists_the_decision_is_created() -> None:
    lists_it = graph(d=[], a=["d"], c=["d", "a"], end=["c"])
    assert parents_of(Expansion(lists_it, present(d=True)).choose("d", [])) == {"c": ("d",), "end": ("c",)}


def test_without_branches_a_convergence_of_branches_only_never_exists() -> None:
    assert Expansion(APPROVAL, AT_D).choose("d", []) == ()


def test_a_nested_decision_appears_and_what_is_behind_it_waits_for_it() -> None:
    nested = graph(d=[], a=["d"], d2=["a"], x=["d2"], y=["d2"], c=["a", "x", "y"], end=["c"])
    first = Expansion(nested, present(d=True)).choose("d", ["a"])
    assert parents_of(first) == {"a": ("d",), "d2": ("a",)}
    second = Expansion(nested, present(d=True, a=True, d2=True)).choose("d2", ["x"])
    assert parents_of(second) == {"x": ("d2",), "c": ("a", "x"), "end": ("c",)}


def test_two_decisions_share_a_convergence_that_the_last_one_creates() -> None:
    two = graph(d1=[], d2=[], a=["d1"], b_=["d2"], c=["a", "b_"])
    assert parents_of(Expansion(two, present(d1=True, d2=False)).choose("d1", ["a"])) == {"a": ("d1",)}
    steps = Expansion(two, present(d1=True, d2=True, a=False)).choose("d2", ["b_"])
    assert parents_of(steps) == {"b_": ("d2",), "c": ("a", "b_")}


def test_a_batch_creates_its_instances_and_what_converges_on_them() -> None:
    batch = graph(b=[], w=["b"], c=["w"], end=["c"])
    steps = Expansion(batch, present(b=True)).split("b", "w", ["w_001", "w_002"])
    assert parents_of(steps) == {
        "w_001": ("b",), "w_002": ("b",), "c": ("w_001", "w_002"), "end": ("c",),
    }  # fmt: skip
    assert [step.template_step for step in steps] == ["w", "w", "c", "end"]


def test_a_convergence_of_two_batches_waits_for_the_instances_of_both() -> None:
    two = graph(b1=[], b2=[], w1=["b1"], w2=["b2"], c=["w1", "w2"])
    first = Expansion(two, present(b1=True, b2=False)).split("b1", "w1", ["w1_001"])
    assert parents_of(first) == {"w1_001": ("b1",)}
    existing = [*present(b1=True, b2=True), ExistingStep("w1_001", "w1", False)]
    assert parents_of(Expansion(two, existing).split("b2", "w2", ["w2_001"])) == {
        "w2_001": ("b2",), "c": ("w1_001", "w2_001"),
    }  # fmt: skip


def test_an_instance_never_does_without_a_parent_that_its_template_names() -> None:
    late = graph(b=[], d=[], x=["d"], w=["b", "x"])
    with pytest.raises(OutcomeRefusedError, match="'w' needs 'x'") as refusal:
        Expansion(late, present(b=True, d=False)).split("b", "w", ["w_001"])
    assert refusal.value.error_code == "UNRESOLVED_DEPENDENCY"
    steps = Expansion(late, present(b=True, d=True, x=False)).split("b", "w", ["w_001"])
    assert parents_of(steps) == {"w_001": ("b", "x")}


def test_decision_batch_workers_convergence_and_a_step_behind() -> None:
    path = graph(d=[], b=["d"], w=["b"], c=["w"], end=["c"], b2=["d"], w2=["b2"], c2=["w2"])
    assert parents_of(Expansion(path, present(d=True)).choose("d", ["b"])) == {"b": ("d",)}
    steps = Expansion(path, present(d=True, b=True)).split("b", "w", ["w_001"])
    assert parents_of(steps) == {"w_001": ("b",), "c": ("w_001",), "end": ("c",)}


def test_what_exists_already_is_not_created_again() -> None:
    steps = Expansion(APPROVAL, [*AT_D, *present(auto=False)]).choose("d", ["auto"])
    assert [step.name for step in steps] == ["c", "end"]


REFUSED = graph(s=[], d=["s"], a=["d"], d2=["d"], y=["d2"], w=["d"], c=["a"], joined=["a", "y"], other=[])


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["nowhere"], "STEP_NOT_IN_TEMPLATE"),
        (["s"], "INVALID_DESCENDANT"),  # above it
        (["d"], "INVALID_DESCENDANT"),
        (["other"], "INVALID_DESCENDANT"),
        (["y"], "INVALID_DESCENDANT"),  # of another decision
        (["w"], "INVALID_DESCENDANT"),
        (["c"], "INVALID_DESCENDANT"),
        (["joined"], "UNRESOLVED_DEPENDENCY"),
        (["a", "joined"], "UNRESOLVED_DEPENDENCY"),
    ],
)
def test_names_that_cannot_be_created_are_refused(names: list[str], code: str) -> None:
    with pytest.raises(OutcomeRefusedError) as refusal:
        Expansion(REFUSED, present(s=True, d=True, other=True)).choose("d", names)
    assert refusal.value.error_code == code


# Any template


@st.composite
def templates(draw: st.DrawFn) -> Graph:
    """Graphs whose edges go from earlier to later steps, of all types but batch workers."""
    size = draw(st.integers(2, 12))
    nodes: dict[str, Node] = {"d": Node("d", StepType.DECISION)}
    for number in range(1, size):
        kind = draw(
            st.sampled_from([*[StepType.STANDARD] * 3, StepType.DECISION, StepType.DEFERRED_CONVERGENCE])
        )
        above = draw(st.lists(st.sampled_from(sorted(nodes)), min_size=1, max_size=3, unique=True))
        nodes[f"n{number}"] = Node(f"n{number}", kind, tuple(above))
    return Graph(nodes)


@given(templates(), st.data())
def test_any_choice_is_acyclic_and_its_edges_end_at_steps(template: Graph, data: st.DataObject) -> None:
    existing = present(d=True)
    for _ in range(4):  # decision after decision, whichever is open
        open_decisions = [
            step.name
            for step in existing
            if template.nodes[step.template_step].type is StepType.DECISION
            and (not step.finished or step.name == "d")
        ]
        if not open_decisions:
            break
        decision = data.draw(st.sampled_from(open_decisions))
        names = data.draw(st.lists(st.sampled_from(sorted(template.nodes)), max_size=3))
        existing = [
            ExistingStep(step.name, step.template_step, step.finished or step.name == decision)
            for step in existing
        ]
        try:
            steps = Expansion(template, existing).choose(decision, names)
        except OutcomeRefusedError:
            continue
        known = {step.name for step in existing}
        for step in steps:
            assert step.parents
            assert known.issuperset(step.parents)  # parents first: no cycle, no edge into nothing
            assert step.name not in known
            known.add(step.name)
        existing += [ExistingStep(step.name, step.template_step, False) for step in steps]
