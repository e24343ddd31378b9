"""Rules about decisions, batches and convergences, whose steps come to exist later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations

from tasker.domain.templates.document import StepType
from tasker.domain.templates.findings import Code, Findings
from tasker.domain.templates.graph import Graph, Node


def check_dynamic_steps(graph: Graph, positions: Mapping[str, int], findings: Findings) -> None:
    """Note everything that keeps dynamic steps from being created as intended."""
    rules = _DynamicRules(graph, positions, findings)
    for decision in graph.of_type(StepType.DECISION):
        rules.check_decision(decision)
        rules.check_joins(decision)
    for batchable in graph.of_type(StepType.BATCHABLE):
        rules.check_batchable(batchable)
    for worker in graph.of_type(StepType.BATCH_WORKER):
        rules.check_worker(worker)
    for convergence in graph.of_type(StepType.DEFERRED_CONVERGENCE):
        rules.check_convergence(convergence)


class _DynamicRules:
    def __init__(self, graph: Graph, positions: Mapping[str, int], findings: Findings) -> None:
        self._graph = graph
        self._positions = positions
        self._findings = findings
        self._initial = graph.initial_set()

    def check_decision(self, decision: Node) -> None:
        if not decision.parents:
            message = f"decision step '{decision.name}' needs at least one dependency"
            self._note(Code.DECISION_WITHOUT_PARENT, decision, message)
        if not self._graph.children[decision.name]:
            message = f"no step depends on decision step '{decision.name}', so it decides nothing"
            self._note(Code.DECISION_WITHOUT_CHILD, decision, message)

    def check_joins(self, decision: Node) -> None:
        """Warn where an ordinary step waits for two branches that may not both be chosen."""
        branches = self._branches(decision)
        for node in self._graph.nodes.values():
            if node.type is StepType.DEFERRED_CONVERGENCE:
                continue
            inside = [parent for parent in node.parents if parent in branches]
            apart = [(a, b) for a, b in combinations(inside, 2) if not branches[a] & branches[b]]
            if apart:
                joined = f"step '{node.name}' joins branches '{apart[0][0]}' and '{apart[0][1]}'"
                remedy = "it exists only if both are chosen; make it a deferred_convergence"
                self._note(Code.STRADDLING_JOIN, node, f"{joined} of decision '{decision.name}': {remedy}")

    def check_batchable(self, batchable: Node) -> None:
        name = self._graph.worker_of(batchable)
        worker = self._graph.nodes.get(name) if name is not None else None
        if worker is None:
            unknown = f"; '{name}' is no step" if name is not None else ""
            message = f"batchable step '{batchable.name}' names no batch_worker{unknown}"
            self._note(Code.BATCH_WORKER_UNRESOLVED, batchable, message)
        elif worker.type is not StepType.BATCH_WORKER:
            message = (
                f"batchable step '{batchable.name}' names '{name}', a {worker.type} step, no batch_worker"
            )
            self._note(Code.WORKER_WRONG_TYPE, batchable, message)
        elif batchable.name not in worker.parents:
            message = f"batch_worker '{name}' must depend on '{batchable.name}', which names it"
            self._note(Code.WORKER_ORPHAN, worker, message)

    def check_worker(self, worker: Node) -> None:
        sources = [name for name in worker.parents if self._graph.nodes[name].type is StepType.BATCHABLE]
        if len(sources) != 1:
            message = (
                f"batch_worker '{worker.name}' must depend on exactly one batchable step, not {len(sources)}"
            )
            self._note(Code.WORKER_ORPHAN, worker, message)
        elif unsure := self._not_there_yet(worker, sources[0]):
            message = (
                f"batch_worker '{worker.name}' depends on '{unsure}', which may not exist yet when '{sources[0]}' is "
                f"split; let '{sources[0]}' depend on it"
            )
            self._note(Code.WORKER_ORPHAN, worker, message)
        for child in self._graph.children[worker.name]:
            if self._graph.nodes[child].type is not StepType.DEFERRED_CONVERGENCE:
                message = (
                    f"step '{child}' depends on batch_worker '{worker.name}'; only a deferred_convergence can"
                )
                self._note(Code.WORKER_AS_PARENT, self._graph.nodes[child], message)
        instance = re.compile(f"{re.escape(worker.name)}_[0-9]+", re.ASCII)
        for node in self._graph.nodes.values():
            if instance.fullmatch(node.name):
                message = (
                    f"step name '{node.name}' is reserved for an instance of batch_worker '{worker.name}'"
                )
                self._note(Code.STEP_NAME_RESERVED, node, message)

    def _not_there_yet(self, worker: Node, batchable: str) -> str | None:
        """Return a parent of a batch worker that neither begins with the task nor is above its batchable step."""
        there = self._initial | self._graph.ancestors(batchable).keys() | {batchable}
        return next((parent for parent in worker.parents if parent not in there), None)

    def check_convergence(self, convergence: Node) -> None:
        above = self._graph.ancestors(convergence.name)
        if not any(self._graph.nodes[name].type.adds_steps for name in above):
            message = f"deferred_convergence '{convergence.name}' descends from no decision or batchable step"
            self._note(Code.CONVERGENCE_STATIC, convergence, f"{message}; make it standard")
            return
        if any(parent in self._initial for parent in convergence.parents):
            return  # It always exists: one of its parents does.
        omitted = self._deciders(convergence) - set(convergence.parents)
        if omitted:
            listed = ", ".join(f"'{name}'" for name in sorted(omitted))
            message = f"deferred_convergence '{convergence.name}' vanishes when {listed} chooses no branch"
            self._note(Code.CONVERGENCE_OMITS_DECISION, convergence, f"{message}; let it depend on it")

    def _deciders(self, convergence: Node) -> set[str]:
        """Return the decisions whose branches a convergence joins; batch workers are no branches."""
        deciders: set[str] = set()
        todo = [
            parent
            for parent in convergence.parents
            if self._graph.nodes[parent].type not in (StepType.BATCH_WORKER, StepType.DECISION)
        ]
        seen = set(todo)
        while todo:
            for above in self._graph.nodes[todo.pop()].parents:
                if self._graph.nodes[above].type is StepType.DECISION:
                    deciders.add(above)
                elif above not in seen:
                    seen.add(above)
                    todo.append(above)
        return deciders

    def _branches(self, decision: Node) -> dict[str, frozenset[str]]:
        """Return, for each step behind a decision, the branches (the decision's children) that lead to it."""
        heads = [
            child
            for child in self._graph.children[decision.name]
            if self._graph.nodes[child].type is not StepType.DEFERRED_CONVERGENCE
        ]
        reached: dict[str, set[str]] = {}
        for head in heads:
            for name in (head, *self._graph.descendants(head)):
                reached.setdefault(name, set()).add(head)
        return {name: frozenset(leading) for name, leading in reached.items()}

    def _note(self, code: Code, node: Node, message: str) -> None:
        self._findings.add(code, ("steps", self._positions[node.name]), message)
