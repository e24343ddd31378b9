"""Whatever the template, whatever its steps decide and in whatever order: the task grows whole."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tasker.domain.templates.document import StepType
from tasker.domain.templates.expansion import ExistingStep, Expansion, NewStep, OutcomeRefusedError
from tasker.domain.templates.graph import Graph, Node

_TYPES = {
    "s": StepType.STANDARD, "d": StepType.DECISION, "b": StepType.BATCHABLE, "c": StepType.DEFERRED_CONVERGENCE,
}  # fmt: skip


def any_template(chance: Random) -> Graph:
    """Return a graph as valid templates have them: batch workers have one batchable, and only convergences as children;
    a convergence has a decision or a batchable step above it.
    """
    nodes = {"s0": Node("s0")}
    for number in range(1, chance.randint(3, 14)):
        letter = chance.choice("ssssdddbccc")
        kind = _TYPES[letter]
        known = [
            name
            for name, node in nodes.items()
            if kind is StepType.DEFERRED_CONVERGENCE or node.type is not StepType.BATCH_WORKER
        ]
        above = tuple(chance.sample(known, min(len(known), chance.randint(1, 3))))
        name = f"{letter}{number}"
        candidate = Graph({**nodes, name: Node(name, kind, above)})
        if kind is StepType.DEFERRED_CONVERGENCE and not _has_expanding(candidate, name):
            continue
        nodes[name] = candidate.nodes[name]
        if kind is StepType.BATCHABLE:
            nodes[f"w{number}"] = Node(f"w{number}", StepType.BATCH_WORKER, (name,))
    return Graph(nodes)


def _has_expanding(graph: Graph, name: str) -> bool:
    return any(
        graph.nodes[above].type in (StepType.DECISION, StepType.BATCHABLE) for above in graph.ancestors(name)
    )


class Run:
    """A task from its creation to its end, its steps finished in any order that its edges allow."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps = {name: NewStep(name, name, graph.nodes[name].parents) for name in graph.initial_set()}
        self.finished: set[str] = set()

    def to_the_end(self, chance: Random) -> None:
        while ready := self._ready():
            name = chance.choice(sorted(ready))
            for step in self._outcome(name, chance):
                assert step.name not in self.steps
                assert self.steps.keys() >= set(step.parents)  # parents first, and no edge into nothing
                assert step.parents
                self.steps[step.name] = step
            self.finished.add(name)

    def _ready(self) -> list[str]:
        waiting = self.steps.keys() - self.finished
        return [name for name in waiting if self.finished.issuperset(self.steps[name].parents)]

    def _outcome(self, name: str, chance: Random) -> tuple[NewStep, ...]:
        kind = self.graph.nodes[self.steps[name].template_step].type
        if kind is StepType.DECISION:
            wanted = chance.sample(sorted(self.graph.nodes), min(len(self.graph.nodes), chance.randint(0, 4)))
            allowed = [each for each in wanted if self._accepts(name, [each])]
            try:
                return self._expansion(name).choose(name, allowed)
            except OutcomeRefusedError:  # each one by itself could be created, all together cannot
                return self._expansion(name).choose(name, [])
        if kind is StepType.BATCHABLE:
            worker = f"w{name[1:]}"
            instances = [f"{worker}_{number:03}" for number in range(chance.randint(1, 3))]
            return self._expansion(name).split(name, worker, instances)
        return ()

    def _accepts(self, decision: str, names: list[str]) -> bool:
        try:
            self._expansion(decision).choose(decision, names)
        except OutcomeRefusedError:
            return False
        return True

    def _expansion(self, expanding: str) -> Expansion:
        done = self.finished | {expanding}
        return Expansion(
            self.graph,
            [ExistingStep(step.name, step.template_step, step.name in done) for step in self.steps.values()],
        )


@settings(max_examples=400)
@given(st.randoms(use_true_random=False))
def test_any_task_ends_with_every_edge_its_template_declares(
    chance: Random,
) -> None:
    run = Run(any_template(chance))
    run.to_the_end(chance)
    assert run.finished == run.steps.keys()  # nothing waits for what never comes
    there: dict[str, set[str]] = {}
    for step in run.steps.values():
        there.setdefault(step.template_step, set()).add(step.name)
    for step in run.steps.values():
        declared = run.graph.nodes[step.template_step].parents
        # No parent came into being after the step that should have waited for it.
        assert set(step.parents) == {name for parent in declared for name in there.get(parent, ())}
        if run.graph.nodes[step.template_step].type is not StepType.DEFERRED_CONVERGENCE:
            assert there.keys() >= set(declared)
    for name, node in run.graph.nodes.items():
        if node.type is StepType.DEFERRED_CONVERGENCE:
            assert (name in there) == bool(there.keys() & set(node.parents))


def test_what_a_decision_may_name_behind_an_existing_convergence_is_waited_for() -> None:
    graph = Graph(
        {
            "s": Node("s"),
            "k": Node("k", StepType.DECISION, ("s",)),
            "d": Node("d", StepType.DECISION, ("s",)),
            "e": Node("e", StepType.DECISION, ("s",)),
            "c": Node("c", StepType.DEFERRED_CONVERGENCE, ("k", "d")),
            "x": Node("x", StepType.STANDARD, ("c", "e")),
            "join": Node("join", StepType.DEFERRED_CONVERGENCE, ("s", "x")),
        }
    )

    def expand(decision: str, *names: str, **finished: bool) -> list[tuple[str, tuple[str, ...]]]:
        existing = [ExistingStep(name, name, done) for name, done in finished.items()]
        return [(step.name, step.parents) for step in Expansion(graph, existing).choose(decision, names)]

    assert expand("k", s=True, k=False, d=False, e=False) == [("c", ("k", "d"))]
    assert expand("e", s=True, k=True, d=False, e=False, c=False) == []  # `d` may still name `x`, behind `c`
    assert expand("d", "x", s=True, k=True, d=False, e=True, c=False) == [
        ("x", ("c", "e")),
        ("join", ("s", "x")),
    ]
    assert expand("d", s=True, k=True, d=False, e=True, c=False) == [("join", ("s",))]
