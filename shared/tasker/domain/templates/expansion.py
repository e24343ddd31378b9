"""Which steps a finished decision or batch adds to its task: pure, over names only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tasker.domain.errors import TaskerError
from tasker.domain.storable import MAX_PROBLEM_CHARACTERS
from tasker.domain.templates.document import StepType
from tasker.domain.templates.graph import Graph


class OutcomeRefusedError(TaskerError):
    """What a decision or batchable step returned cannot be carried out; nothing is created.

    Attributes:
        error_code: The rule that was broken.
    """

    reason = "OUTCOME_REFUSED"

    def __init__(self, error_code: str, message: str) -> None:
        self.error_code = error_code
        # It may quote what a handler returned, whatever the size of that.
        limit = MAX_PROBLEM_CHARACTERS
        super().__init__(message if len(message) <= limit else f"{message[: limit - 3]}...")


@dataclass(frozen=True, slots=True)
class DecisionLimits:
    """How far decisions may go; what is above a limit is refused, above a threshold warned of.

    Attributes:
        max_steps: Steps that one decision may name.
        max_depth: Decisions on the way to a step, the step itself included if it is one.
        warn_steps, warn_depth: The thresholds.
    """

    max_steps: int = 100
    max_depth: int = 20
    warn_steps: int = 50
    warn_depth: int = 10


@dataclass(frozen=True, slots=True)
class ExistingStep:
    """A step that the task has already.

    Attributes:
        name: Its own name; that of a batch instance differs from its template step's.
        template_step: Its name in the template.
        finished: Whether it is complete or resolved, so that it creates nothing any more.
    """

    name: str
    template_step: str
    finished: bool


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step to create.

    Attributes:
        name: Its own name.
        template_step: Its name in the template.
        parents: Names of the steps it waits for, new and existing ones.
    """

    name: str
    template_step: str
    parents: tuple[str, ...]


_DEFAULT_LIMITS: Final = DecisionLimits()


@dataclass(slots=True)
class Expansion:
    """A task's steps while the outcome of an expanding step is carried out.

    Attributes:
        graph: The template.
        existing: What the task has; the expanding step counts as finished.
    """

    graph: Graph
    existing: Iterable[ExistingStep]
    _present: dict[str, list[str]] = field(init=False)
    _unfinished: set[str] = field(init=False)
    _new: dict[str, NewStep] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._present = {}
        self._unfinished = set()
        for step in self.existing:
            self._present.setdefault(step.template_step, []).append(step.name)
            if not step.finished:
                self._unfinished.add(step.template_step)

    def depth(self, decision: str) -> int:
        """Return how many decisions are on the longest way to a decision through what exists, itself included."""
        depths: dict[str, int] = {}
        for name in self.graph.topological_order():
            node = self.graph.nodes[name]
            above = max((depths.get(parent, 0) for parent in node.parents), default=0)
            if name in self._present:
                depths[name] = above + (node.type is StepType.DECISION)
        return depths[decision]

    def choose(
        self, decision: str, names: Sequence[str], limits: DecisionLimits = _DEFAULT_LIMITS
    ) -> tuple[NewStep, ...]:
        """Return the steps to create when a decision names branches; without names only what settles now.

        Raises:
            OutcomeRefusedError: A limit is passed, or a name is unknown, not below the decision, or lacks a parent.
        """
        self._unfinished.discard(decision)
        wanted = dict.fromkeys(names)
        self._check_limits(decision, wanted, limits)
        self._check_names(decision, wanted)
        chosen = [name for name in wanted if name not in self._present]
        for name in chosen:
            self._add(name, name)
        self._close(set(chosen))
        for name in wanted:
            self._check_parents(name)
        self._settle()
        return self._created()

    def split(self, batchable: str, worker: str, instances: Sequence[str]) -> tuple[NewStep, ...]:
        """Return the steps to create when a batchable step has split its work into instances of a worker.

        Raises:
            OutcomeRefusedError: The worker lacks a parent.
        """
        self._unfinished.discard(batchable)
        self._check_parents(worker)
        existing = self._present.get(worker, ())
        for name in [name for name in instances if name not in existing]:
            self._add(name, worker)
        self._settle()
        return self._created()

    def _check_parents(self, name: str) -> None:
        for parent in self.graph.nodes[name].parents:
            if parent not in self._present:
                raise OutcomeRefusedError(
                    "UNRESOLVED_DEPENDENCY", f"step '{name}' needs '{parent}', which does not exist"
                )

    def _check_limits(self, decision: str, names: Mapping[str, None], limits: DecisionLimits) -> None:
        if len(names) > limits.max_steps:
            raise OutcomeRefusedError(
                "TOO_MANY_STEPS", f"{len(names)} steps requested, maximum {limits.max_steps}"
            )
        if names and (depth := self.depth(decision)) > limits.max_depth:
            raise OutcomeRefusedError("DEPTH_EXCEEDED", f"decision depth {depth}, maximum {limits.max_depth}")

    def _check_names(self, decision: str, names: Mapping[str, None]) -> None:
        allowed = self._choices(decision)
        for name in names:
            if name not in self.graph.nodes:
                raise OutcomeRefusedError("STEP_NOT_IN_TEMPLATE", f"step '{name}' is not in the template")
            if name not in allowed:
                raise OutcomeRefusedError(
                    "INVALID_DESCENDANT", f"step '{name}' cannot be created by decision '{decision}'"
                )

    def _choices(self, decision: str) -> set[str]:
        """Return what a decision may name: everything below it, up to and including the next decisions."""
        reached: set[str] = set()
        todo = [decision]
        while todo:
            for child in self.graph.children[todo.pop()]:
                if child not in reached:
                    reached.add(child)
                    if self.graph.nodes[child].type is not StepType.DECISION:
                        todo.append(child)
        return {name for name in reached if not self.graph.nodes[name].type.is_always_dynamic}

    def _add(self, name: str, template_step: str) -> None:
        self._present.setdefault(template_step, []).append(name)
        self._new[name] = NewStep(name, template_step, ())
        self._unfinished.add(template_step)

    def _close(self, added: set[str]) -> None:
        """Add the chain behind what was added, until a decision or a missing parent stops it."""
        while added:
            joining = {
                child
                for name in added
                for child in self.graph.children[name]
                if child not in self._present and self._can_join(child)
            }
            for name in joining:
                self._add(name, name)
            added = joining

    def _can_join(self, name: str) -> bool:
        node = self.graph.nodes[name]
        return not node.type.is_always_dynamic and all(
            parent in self._present
            and not (self.graph.nodes[parent].type is StepType.DECISION and parent in self._unfinished)
            for parent in node.parents
        )

    def _settle(self) -> None:
        """Create each convergence whose parents are all known by now, and what stands behind it."""
        for name in self.graph.topological_order():
            node = self.graph.nodes[name]
            if node.type is not StepType.DEFERRED_CONVERGENCE or name in self._present:
                continue
            still_possible = self._still_possible()
            if any(parent in still_possible for parent in node.parents):
                continue
            if any(parent in self._present for parent in node.parents):
                self._add(name, name)
                self._close({name})

    def _still_possible(self) -> set[str]:
        """Return the missing steps that an unfinished decision or batchable step could still lead to.

        The way there may lead through steps that exist: a decision may name what is behind them.
        """
        reached: set[str] = set()
        todo = [
            name
            for name in self._present
            if name in self._unfinished and self.graph.nodes[name].type.adds_steps
        ]
        while todo:
            for child in self.graph.children[todo.pop()]:
                if child not in reached:
                    reached.add(child)
                    todo.append(child)
        return reached - self._present.keys()

    def _created(self) -> tuple[NewStep, ...]:
        """Return the new steps with their parents, parents first."""
        position = {name: index for index, name in enumerate(self.graph.topological_order())}
        steps = sorted(self._new.values(), key=lambda step: position[step.template_step])
        return tuple(
            NewStep(
                step.name,
                step.template_step,
                tuple(
                    name
                    for parent in self.graph.nodes[step.template_step].parents
                    for name in self._present.get(parent, ())
                ),
            )
            for step in steps
        )
