"""Carrying out what decisions and batches decided, in the transaction that completes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

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
from tasker.orchestration.engine.revisions import PlannedRevision, PlannedRevisions
from tasker.persistence.operations.expand import StepToAdd, TaskStep, expand_tasks, task_steps
from tasker.persistence.queries import Transaction
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

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
class ExpandingStep:
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
    """Adds the steps that decisions and batches lead to."""

    def __init__(
        self,
        revisions: PlannedRevisions,
        *,
        decisions: DecisionLimits,
        batches: BatchLimits,
    ) -> None:
        self._revisions = revisions
        self._decisions = decisions
        self._batches = batches

    async def expand(
        self, transaction: Transaction, expanding_steps: Iterable[ExpandingStep]
    ) -> Mapping[UUID, OutcomeRefusedError]:
        """Add the steps that others lead to; return the refusals of their outcomes, by step: those lead to nothing.

        The transaction has locked their tasks. The expanding steps of one task see each other's work, in their order.
        """
        distinct = {expanding.step_uuid: expanding for expanding in expanding_steps}
        if not distinct:
            return {}
        growing = await self._read(transaction, {expanding.task_uuid for expanding in distinct.values()})
        refused: dict[UUID, OutcomeRefusedError] = {}
        for step_uuid, expanding in distinct.items():
            try:
                growing[expanding.task_uuid].carry_out(expanding)
            except OutcomeRefusedError as refusal:
                refused[step_uuid] = refusal
                log.warning(
                    "outcome_refused",
                    task_uuid=str(expanding.task_uuid),
                    step=expanding.name,
                    error_code=refusal.error_code,
                    problem=str(refusal),
                )
        if added := [step for task in growing.values() for step in task.added]:
            await expand_tasks(
                transaction, self._revisions.environment, added, batch_limit=self._batches.max_parallel
            )
        return refused

    async def _read(self, transaction: Transaction, task_uuids: set[UUID]) -> dict[UUID, _GrowingTask]:
        steps: dict[UUID, list[TaskStep]] = {}
        for step in await task_steps(transaction, task_uuids):
            steps.setdefault(step.task_uuid, []).append(step)
        return {
            task_uuid: _GrowingTask(
                task_uuid,
                await self._revisions.of(found[0].environment).get(found[0].template_digest),
                found,
                self._decisions,
                self._batches,
            )
            for task_uuid, found in steps.items()
        }


class _GrowingTask:
    """One task's steps while the outcomes of some of them are carried out."""

    def __init__(
        self,
        task_uuid: UUID,
        revision: PlannedRevision,
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

    def carry_out(self, expanding: ExpandingStep) -> None:
        """Note the steps that an expanding step leads to.

        Raises:
            OutcomeRefusedError: Its outcome cannot be carried out; nothing is noted.
        """
        expansion = Expansion(
            self._revision.graph,
            [
                ExistingStep(
                    name, self._template_steps[step_uuid], name in self._finished or name == expanding.name
                )
                for name, step_uuid in self._uuids.items()
            ],
        )
        if expanding.step_type is StepType.DECISION:
            self._add(self._choose(expanding, expansion), {}, expanding)
        else:
            self._split(expanding, expansion)
        self._finished.add(expanding.name)

    def _choose(self, expanding: ExpandingStep, expansion: Expansion) -> Sequence[NewStep]:
        choice = Choice() if expanding.resolved else chosen_steps(expanding.name, expanding.result)
        self._warn(expanding, choice.warnings)
        names = choice.names
        steps = expansion.choose(expanding.name, names, self._decisions)
        depth = expansion.depth(expanding.name)
        if len(names) > self._decisions.warn_steps or depth > self._decisions.warn_depth:
            log.warning(
                "decision_goes_far",
                task_uuid=str(self._task_uuid),
                step=expanding.name,
                steps=len(names),
                depth=depth,
            )
        return steps

    def _split(self, expanding: ExpandingStep, expansion: Expansion) -> None:
        limit = self._batches.max_batches
        plan = (
            Batches(None, ())
            if expanding.resolved
            else planned_batches(expanding.name, expanding.result, max_batches=limit)
        )
        self._warn(expanding, plan.warnings)
        worker = self._worker(expanding.name, plan.worker)
        instances = {
            f"{worker}_{cursor.batch_id if cursor else EMPTY_BATCH_ID}": self._inputs(
                expanding, worker, cursor
            )
            for cursor in plan.cursors or (None,)
        }
        self._add(expansion.split(expanding.name, worker, list(instances)), instances, expanding)

    def _warn(self, expanding: ExpandingStep, warnings: Iterable[str]) -> None:
        for warning in warnings:
            log.warning(
                "outcome_tolerated", task_uuid=str(self._task_uuid), step=expanding.name, problem=warning
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

    def _inputs(self, expanding: ExpandingStep, worker: str, cursor: Cursor | None) -> str:
        initialization = self._revision.steps[worker].initialization
        try:
            return encode_json(instance_inputs(worker, initialization, self._config(worker), cursor))
        except ResultNotStorableError as error:
            raise OutcomeRefusedError(
                "OUTCOME_MALFORMED",
                f"outcome of batchable '{expanding.name}': inputs of an instance: {error}",
            ) from error

    def _add(self, steps: Sequence[NewStep], instances: Mapping[str, str], expanding: ExpandingStep) -> None:
        for step in steps:
            step_uuid = uuid7()
            self._uuids[step.name] = step_uuid
            self._template_steps[step_uuid] = step.template_step
            if step.name in instances:
                self.added.append(self._instance(step_uuid, step, instances[step.name], expanding))
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

    def _instance(self, step_uuid: UUID, step: NewStep, inputs: str, expanding: ExpandingStep) -> StepToAdd:
        config = self._config(step.template_step)
        parents = [self._uuids[parent] for parent in step.parents]
        return StepToAdd(
            task_uuid=self._task_uuid,
            step_uuid=step_uuid,
            name=step.name,
            template_step_name=step.template_step,
            step_type=StepType.STANDARD,
            parents=parents,
            edges=[_BATCH if parent == expanding.step_uuid else _PROVIDES for parent in parents],
            ancestors=self._ancestors_of(step_uuid, step.template_step, parents),
            inputs=inputs,
            batch_step_uuid=expanding.step_uuid,
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
