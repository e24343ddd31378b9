"""A template as the rows a task is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasker.domain.retry import Backoff, OnWorkerLost
from tasker.domain.templates.document import BatchConfig, Step, StepType, Template
from tasker.domain.templates.environments import resolve
from tasker.domain.templates.graph import MAX_ANCESTOR_DEPTH, Graph


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a template, resolved for an environment.

    Attributes:
        position: Its place in topological order, from 0.
        name: Its name.
        step_type: What it is to the engine.
        callable, method, resolver: How the worker finds its handler.
        initialization: What the handler is set up with; stored as the inputs of the step, null when empty.
        retryable, max_attempts, backoff, backoff_base_ms, max_backoff_ms: Its retry rules.
        timeout_seconds: How long one execution may take; None means the worker's default.
        on_worker_lost: What a lost worker means.
        initial: Whether it is created with the task; otherwise a decision or a batch creates it.
        parent_positions: The steps it declares to depend on, ascending.
        ancestor_positions: Every step above it, at most 50 levels, ascending: those whose results its
            handler sees.
        batch_config: For batchable and batch_worker steps how the batch is run, worker_template resolved;
            None otherwise.
    """

    position: int
    name: str
    step_type: StepType
    callable: str
    method: str
    resolver: str | None
    initialization: Mapping[str, Any]
    retryable: bool
    max_attempts: int
    backoff: Backoff
    backoff_base_ms: int
    max_backoff_ms: int
    timeout_seconds: int | None
    on_worker_lost: OnWorkerLost
    initial: bool
    parent_positions: tuple[int, ...]
    ancestor_positions: tuple[int, ...]
    batch_config: BatchConfig | None


def plan(template: Template, environment: str | None = None) -> tuple[PlannedStep, ...]:
    """Return the steps of a template in topological order, resolved for an environment.

    Args:
        template: A valid template.
        environment: The value of TASKER_ENV; None applies no overrides.

    Raises:
        ValueError: The steps form a cycle, which no valid template has.

    All steps are planned; those that are not `initial` wait for a decision or a batch.
    """
    resolved = resolve(template, environment)
    graph = Graph.of(resolved)
    order = graph.topological_order()
    position = {name: index for index, name in enumerate(order)}
    steps = {step.name: step for step in resolved.steps}
    initial = graph.initial_set()
    return tuple(
        PlannedStep(
            position=index,
            name=name,
            step_type=step.type,
            callable=step.handler.callable,
            method=step.handler.method,
            resolver=step.handler.resolver,
            initialization=step.handler.initialization,
            retryable=step.retry.retryable,
            max_attempts=step.retry.max_attempts,
            backoff=step.retry.backoff,
            backoff_base_ms=step.retry.backoff_base_ms,
            max_backoff_ms=step.retry.max_backoff_ms,
            timeout_seconds=step.timeout_seconds,
            on_worker_lost=step.on_worker_lost or resolved.on_worker_lost,
            initial=name in initial,
            parent_positions=tuple(sorted(position[parent] for parent in step.dependencies)),
            ancestor_positions=tuple(
                sorted(position[above] for above in graph.ancestors(name, depth=MAX_ANCESTOR_DEPTH))
            ),
            batch_config=_batch_config(step, graph, steps),
        )
        for index, name in enumerate(order)
        for step in (steps[name],)
    )


def _batch_config(step: Step, graph: Graph, steps: Mapping[str, Step]) -> BatchConfig | None:
    """Return how a batch is run: as the worker says, else the batchable, else the defaults."""
    if step.type is StepType.BATCHABLE:
        worker_name = graph.worker_of(graph.nodes[step.name])
        worker, batchable = (steps.get(worker_name) if worker_name else None), step
    elif step.type is StepType.BATCH_WORKER:
        worker_name, worker = step.name, step
        batchable = next(steps[name] for name in step.dependencies if steps[name].type is StepType.BATCHABLE)
    else:
        return None
    config = (worker.batch_config if worker else None) or batchable.batch_config
    if worker_name is None:
        return config
    if config is None:
        return BatchConfig(worker_template=worker_name)
    return config.model_copy(update={"worker_template": worker_name})
