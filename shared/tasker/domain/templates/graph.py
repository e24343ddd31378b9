"""The graph of a template's steps: order, cycles, ancestors, the initial set."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tasker.domain.templates.document import StepType, Template

#: How far up a handler sees results.
MAX_ANCESTOR_DEPTH: Final = 50


@dataclass(frozen=True, slots=True)
class Node:
    """What the graph needs to know of a step.

    Attributes:
        name: Its name.
        type: Its type.
        parents: The steps it depends on; distinct, existing, not itself.
        named_worker: The batch worker it names, in batch_config or in initialization.
    """

    name: str
    type: StepType = StepType.STANDARD
    parents: tuple[str, ...] = ()
    named_worker: str | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """The steps of a template by name, in the order of the document, with edges in both directions."""

    nodes: Mapping[str, Node]
    children: Mapping[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        children: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for parent in node.parents:
                children[parent].append(node.name)
        object.__setattr__(self, "children", {name: tuple(below) for name, below in children.items()})

    @classmethod
    def of(cls, template: Template) -> Graph:
        """Return the graph of a valid template."""
        return cls(
            {
                step.name: Node(
                    step.name,
                    step.type,
                    tuple(step.dependencies),
                    named_worker(
                        step.batch_config.worker_template if step.batch_config else None,
                        step.handler.initialization,
                    ),
                )
                for step in template.steps
            }
        )

    def of_type(self, step_type: StepType) -> list[Node]:
        """Return the steps of one type."""
        return [node for node in self.nodes.values() if node.type is step_type]

    def ancestors(self, name: str, *, depth: int | None = None) -> dict[str, int]:
        """Return every step above one, nearest first, with its distance."""
        return _reach(name, lambda step: self.nodes[step].parents, depth)

    def descendants(self, name: str) -> dict[str, int]:
        """Return every step below one, nearest first, with its distance."""
        return _reach(name, lambda step: self.children[step], None)

    def topological_order(self) -> list[str]:
        """Return all names, parents first, otherwise in the order of the document.

        Raises:
            ValueError: The graph has a cycle.
        """
        order = self._peel()
        if len(order) < len(self.nodes):
            raise ValueError("the steps form a cycle")
        return order

    def cycles(self) -> list[list[str]]:
        """Return cycles, each from its first step in the document back to it, that cover all steps on one."""
        peeled = set(self._peel())
        position = {name: index for index, name in enumerate(self.nodes)}
        covered: set[str] = set()
        cycles = []
        for name in self.nodes:
            if name in peeled or name in covered:
                continue
            if cycle := self._shortest_cycle(name, peeled):
                covered.update(cycle)
                first = cycle.index(min(cycle, key=position.__getitem__))
                cycles.append([*cycle[first:], *cycle[:first], cycle[first]])
        return cycles

    def initial_set(self) -> frozenset[str]:
        """Return the steps that are created with the task; all others are dynamic.

        These are the steps that are neither batch_worker nor deferred_convergence and descend from no
        decision, batch_worker or deferred_convergence.
        """
        dynamic = {node.name for node in self.nodes.values() if node.type.is_always_dynamic}
        todo = [*dynamic, *(decision.name for decision in self.of_type(StepType.DECISION))]
        while todo:
            below = [child for child in self.children[todo.pop()] if child not in dynamic]
            dynamic.update(below)
            todo.extend(below)
        return frozenset(self.nodes.keys() - dynamic)

    def worker_of(self, batchable: Node) -> str | None:
        """Return the batch worker a batchable names, or the only one below it."""
        if batchable.named_worker is not None:
            return batchable.named_worker
        below = [
            name for name in self.children[batchable.name] if self.nodes[name].type is StepType.BATCH_WORKER
        ]
        return below[0] if len(below) == 1 else None

    def _peel(self) -> list[str]:
        """Return the steps that can be ordered: all those not on a cycle or behind one."""
        position = {name: index for index, name in enumerate(self.nodes)}
        unmet = {name: len(node.parents) for name, node in self.nodes.items()}
        ready = [(position[name], name) for name, count in unmet.items() if count == 0]
        order = []
        while ready:
            _, name = heapq.heappop(ready)
            order.append(name)
            for child in self.children[name]:
                unmet[child] -= 1
                if unmet[child] == 0:
                    heapq.heappush(ready, (position[child], child))
        return order

    def _shortest_cycle(self, start: str, peeled: set[str]) -> list[str] | None:
        came_from: dict[str, str] = {}
        todo = deque([start])
        while todo:
            name = todo.popleft()
            for child in self.children[name]:
                if child == start:
                    return _walk_back(name, start, came_from)
                if child not in came_from and child not in peeled:
                    came_from[child] = name
                    todo.append(child)
        return None


def named_worker(from_config: object, initialization: object) -> str | None:
    """Return the batch worker a step names: in its batch_config, else in its initialization."""
    by_hand = initialization.get("worker_template_name") if isinstance(initialization, Mapping) else None
    return next((name for name in (from_config, by_hand) if isinstance(name, str) and name), None)


def _walk_back(last: str, start: str, came_from: Mapping[str, str]) -> list[str]:
    path = [last]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def _reach(start: str, onward: Callable[[str], Iterable[str]], depth: int | None) -> dict[str, int]:
    """Return everything reachable, breadth first, with its distance; `start` only if it is on a cycle."""
    reached: dict[str, int] = {}
    todo = deque([(start, 0)])
    while todo:
        name, distance = todo.popleft()
        if depth is not None and distance >= depth:
            continue
        for onto in onward(name):
            if onto not in reached:
                reached[onto] = distance + 1
                todo.append((onto, distance + 1))
    return reached
