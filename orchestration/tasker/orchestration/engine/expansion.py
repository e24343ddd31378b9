"""Carrying out what decisions and batches decided, in the transaction that completes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from tasker.domain.outcomes import (
    EMPTY_BATCH_ID,
    MAX_BATCHES,
    Batches,
    Choice,
    Cursor,
    chosen_steps,
    instance_inputs,
    planned_batches,
)
from tasker.domain.states import StepState
from tasker.domain.storable import ResultNotStorableError, encode_json
from tasker.domain.templates.document import BatchConfig, FailureStrategy, StepType
from tasker.domain.templates.expansion import (
    DecisionLimits,
    ExistingStep,
    Expansion,
    NewStep,
    OutcomeRefusedError,
)
from tasker.domain.templates.graph import MAX_ANCESTOR_DEPTH
from tasker.domain.uuids import uuid7
from tasker.messaging.held import HeldTasks
from tasker.messaging.records import StepToAdd, TaskStep
from tasker.orchestration.engine.revisions import Revision, Revisions

log = structlog.get_logger(__name__)

_PROVIDES: Final = "provides"
_BATCH: Final = "batch_dependency"
_CONVERGENCE: Final = "worker_to_convergence"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How far batches may go.

    Attributes:
        max_batches: Instances of one batch.
        max_parallel: Instances of one task in flight at once, whatever its batches allow.
    """

    max_batches: int = MAX_BATCHES
    max_parallel: int = 50


@dataclass(frozen=True, slots=True)
class Creator:
    """A decision or batchable step that is about to be satisfied.

    Attributes:
        result: What it returned.
        resolved: Whether it was resolved by hand instead: that leads to nothing.
    """

    task_uuid: UUID
    step_uuid: UUID
    name: str
    step_type: StepType
    result: object
    resolved: bool = False


class Expander:
    """Adds the steps that creators lead to, to tasks that the caller holds."""

    def __init__(
        self, revisions: Revisions, *, environment: str, decisions: DecisionLimits, batches: BatchLimits
    ) -> None:
        self._revisions = revisions
        self._environment = environment
        self._decisions = decisions
        self._batches = batches

    async def expand(
        self, tasks: HeldTasks, creators: Iterable[Creator]
    ) -> Mapping[UUID, OutcomeRefusedError]:
        """Add steps; return the creators whose outcome is refused, by their step: they lead to nothing.

        The creators of one task see each other's work, in their order.
        """
        distinct = {creator.step_uuid: creator for creator in creators}
        if not distinct:
            return {}
        growing = await self._read(tasks, {creator.task_uuid for creator in distinct.values()})
        refused: dict[UUID, OutcomeRefusedError] = {}
        for step_uuid, creator in distinct.items():
            try:
                growing[creator.task_uuid].carry_out(creator)
            except OutcomeRefusedError as refusal:
                refused[step_uuid] = refusal
                log.warning(
                    "outcome_refused",
                    task_uuid=str(creator.task_uuid),
                    step=creator.name,
                    error_code=refusal.error_code,
                    problem=str(refusal),
                )
        if added := [step for task in growing.values() for step in task.added]:
            await tasks.add_steps(self._environment, added, batch_limit=self._batches.max_parallel)
        return refused

    async def _read(self, tasks: HeldTasks, task_uuids: set[UUID]) -> dict[UUID, _GrowingTask]:
        steps: dict[UUID, list[TaskStep]] = {}
        for step in await tasks.steps(sorted(task_uuids)):
            steps.setdefault(step.task_uuid, []).append(step)
        return {
            task_uuid: _GrowingTask(
                task_uuid,
                await self._revisions.get(found[0].template_digest),
                found,
                self._decisions,
                self._batches,
            )
            for task_uuid, found in steps.items()
        }


class _GrowingTask:
    """One task's steps while the outcomes of its creators are carried out."""

    def __init__(
        self,
        task_uuid: UUID,
        revision: Revision,
        steps: Sequence[TaskStep],
        decisions: DecisionLimits,
        batches: BatchLimits,
    ) -> None:
        self._task_uuid = task_uuid
        self._revision = revision
        self._decisions = decisions
        self._batches = batches
        self._uuids = {step.name: step.step_uuid for step in steps}
        self._ancestors = {step.step_uuid: frozenset(step.ancestor_uuids) for step in steps}
        self._template_steps = {step.step_uuid: step.template_step_name for step in steps}
        self._finished = {step.name for step in steps if StepState(step.state).satisfies_children}
        self.added: list[StepToAdd] = []

    def carry_out(self, creator: Creator) -> None:
        """Note the steps that a creator leads to.

        Raises:
            OutcomeRefusedError: Its outcome cannot be carried out; nothing is noted.
        """
        expansion = Expansion(
            self._revision.graph,
            [
                ExistingStep(
                    name, self._template_steps[step_uuid], name in self._finished or name == creator.name
                )
                for name, step_uuid in self._uuids.items()
            ],
        )
        if creator.step_type is StepType.DECISION:
            self._add(self._choose(creator, expansion), {}, creator)
        else:
            self._split(creator, expansion)
        self._finished.add(creator.name)

    def _choose(self, creator: Creator, expansion: Expansion) -> Sequence[NewStep]:
        choice = Choice() if creator.resolved else chosen_steps(creator.name, creator.result)
        self._warn(creator, choice.warnings)
        names = choice.names
        steps = expansion.choose(creator.name, names, self._decisions)
        depth = expansion.depth(creator.name)
        if len(names) > self._decisions.warn_steps or depth > self._decisions.warn_depth:
            log.warning(
                "decision_goes_far",
                task_uuid=str(self._task_uuid),
                step=creator.name,
                steps=len(names),
                depth=depth,
            )
        return steps

    def _split(self, creator: Creator, expansion: Expansion) -> None:
        limit = self._batches.max_batches
        plan = (
            Batches(None, ())
            if creator.resolved
            else planned_batches(creator.name, creator.result, max_batches=limit)
        )
        self._warn(creator, plan.warnings)
        worker = self._worker(creator.name, plan.worker)
        instances = {
            f"{worker}_{cursor.batch_id if cursor else EMPTY_BATCH_ID}": self._inputs(creator, worker, cursor)
            for cursor in plan.cursors or (None,)
        }
        self._add(expansion.split(creator.name, worker, list(instances)), instances, creator)

    def _warn(self, creator: Creator, warnings: Iterable[str]) -> None:
        for warning in warnings:
            log.warning(
                "outcome_tolerated", task_uuid=str(self._task_uuid), step=creator.name, problem=warning
            )

    def _worker(self, batchable: str, named: str | None) -> str:
        """Return the batch worker that an outcome names, else the one its template leads to."""
        config = self._revision.steps[batchable].batch_config
        worker = named or (config.worker_template if config else None)
        node = self._revision.graph.nodes.get(worker or "")
        if node is None or node.type is not StepType.BATCH_WORKER or batchable not in node.parents:
            raise OutcomeRefusedError(
                "WORKER_INVALID", f"outcome of batchable '{batchable}': '{worker}' is no batch_worker of it"
            )
        return node.name

    def _config(self, worker: str) -> BatchConfig:
        return self._revision.steps[worker].batch_config or BatchConfig(worker_template=worker)

    def _inputs(self, creator: Creator, worker: str, cursor: Cursor | None) -> str:
        initialization = self._revision.steps[worker].initialization
        try:
            return encode_json(instance_inputs(worker, initialization, self._config(worker), cursor))
        except ResultNotStorableError as error:
            raise OutcomeRefusedError(
                "OUTCOME_MALFORMED", f"outcome of batchable '{creator.name}': inputs of an instance: {error}"
            ) from error

    def _add(self, steps: Sequence[NewStep], instances: Mapping[str, str], creator: Creator) -> None:
        for step in steps:
            step_uuid = uuid7()
            self._uuids[step.name] = step_uuid
            self._template_steps[step_uuid] = step.template_step
            if step.name in instances:
                self.added.append(self._instance(step_uuid, step, instances[step.name], creator))
            else:
                self.added.append(self._step(step_uuid, step))

    def _step(self, step_uuid: UUID, step: NewStep) -> StepToAdd:
        parents = [self._uuids[parent] for parent in step.parents]
        return StepToAdd(
            task_uuid=self._task_uuid,
            step_uuid=step_uuid,
            name=step.name,
            template_step_name=step.template_step,
            step_type=self._revision.steps[step.template_step].step_type,
            parents=parents,
            edges=[_CONVERGENCE if self._is_instance(parent) else _PROVIDES for parent in parents],
            ancestors=self._ancestors_of(step_uuid, step.template_step, parents),
        )

    def _instance(self, step_uuid: UUID, step: NewStep, inputs: str, creator: Creator) -> StepToAdd:
        config = self._config(step.template_step)
        parents = [self._uuids[parent] for parent in step.parents]
        return StepToAdd(
            task_uuid=self._task_uuid,
            step_uuid=step_uuid,
            name=step.name,
            template_step_name=step.template_step,
            step_type=StepType.STANDARD,
            parents=parents,
            edges=[_BATCH if parent == creator.step_uuid else _PROVIDES for parent in parents],
            ancestors=self._ancestors_of(step_uuid, step.template_step, parents),
            inputs=inputs,
            batch_step_uuid=creator.step_uuid,
            batch_parallelism=config.parallelism,
            batch_fail_fast=config.failure_strategy is FailureStrategy.FAIL_FAST,
        )

    def _is_instance(self, step_uuid: UUID) -> bool:
        return self._revision.graph.nodes[self._template_steps[step_uuid]].type is StepType.BATCH_WORKER

    def _ancestors_of(self, step_uuid: UUID, template_step: str, parents: Sequence[UUID]) -> list[UUID]:
        """Return the steps whose results a new step sees: those above it, as far up as the template says."""
        near = self._revision.graph.ancestors(template_step, depth=MAX_ANCESTOR_DEPTH)
        above = frozenset(parents).union(*(self._ancestors[parent] for parent in parents))
        ancestors = frozenset(step for step in above if self._template_steps[step] in near)
        self._ancestors[step_uuid] = ancestors
        return sorted(ancestors)
