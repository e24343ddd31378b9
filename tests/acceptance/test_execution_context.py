"""The execution context of a task, row by row of its table, as an engine brings it about.

Steps beside a failed branch run on (see test_failed_branch.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from tasker.orchestration.services import render
from tasker.v1 import tasks_pb2
from tests.support.engine import Engine, chain, graph

#: Three steps side by side, with a retry that comes after 100 s.
SIDE_BY_SIDE = graph(
    {"a": [], "b": [], "c": []}, retry={"backoff_base_ms": 100_000, "max_backoff_ms": 100_000}
)

Case = tuple[str, str]

BLOCKED = ("blocked_by_failures", "handle_failures")
READY = ("has_ready_steps", "execute_ready_steps")
PROCESSING = ("processing", "wait_for_completion")
COMPLETE = ("all_complete", "finalize_task")
WAITING = ("waiting_for_dependencies", "wait_for_dependencies")


async def _context(engine: Engine, task: UUID) -> tasks_pb2.Task:
    record = await engine.reader.get(task)
    assert record is not None
    return render.task(record)


def _row(context: tasks_pb2.Task) -> Case:
    return context.execution_status, context.recommended_action


async def _submit(engine: Engine, *fates: str) -> UUID:
    """Create three steps side by side; each succeeds, fails for good, goes into backoff or goes on running."""
    task = await engine.create(SIDE_BY_SIDE)
    steps = sorted(await engine.claim(), key=lambda step: step.name)
    for step, fate in zip(steps, fates, strict=True):
        if fate == "done":
            await engine.succeed(step)
        elif fate in ("error", "backoff"):
            await engine.fail(step, retryable=fate == "backoff")
    await engine.process()
    return task


async def _due(engine: Engine, *fates: str) -> UUID:
    """The same, and the backoff is over, though no timer has ticked yet."""
    task = await _submit(engine, *fates)
    await engine.move_clock(100)
    return task


async def _all_done(engine: Engine, *fates: str) -> UUID:
    task = await engine.create(chain(2))
    await engine.run(task)
    return task


async def _no_steps(engine: Engine, *fates: str) -> UUID:
    task = await engine.create(chain(1))
    await engine.database.execute("DELETE FROM tasker.workflow_steps")
    await engine.database.execute("UPDATE tasker.tasks SET total_steps = 0, in_flight_steps = 0")
    return task


@pytest.mark.parametrize(
    ("bring_about", "fates", "expected"),
    [
        (_submit, ("error", "done", "done"), BLOCKED),
        (_submit, ("error", "running", "backoff"), BLOCKED),
        (_due, ("error", "running", "backoff"), BLOCKED),  # before a ready one
        (_due, ("done", "done", "backoff"), READY),
        (_due, ("done", "running", "backoff"), READY),  # before one in flight
        (_submit, ("running", "running", "running"), PROCESSING),
        (_submit, ("done", "running", "backoff"), PROCESSING),
        (_all_done, (), COMPLETE),
        (_submit, ("done", "done", "backoff"), WAITING),
        (_no_steps, (), WAITING),
    ],
)
async def test_the_first_row_that_holds_is_shown(
    engine: Engine, bring_about: Callable[..., Awaitable[UUID]], fates: tuple[str, ...], expected: Case
) -> None:
    assert _row(await _context(engine, await bring_about(engine, *fates))) == expected


async def test_what_is_enqueued_or_submitted_is_in_flight(engine: Engine) -> None:
    task = await engine.create(chain(1))
    assert _row(await _context(engine, task)) == PROCESSING
    (step,) = await engine.claim()
    await engine.succeed(step)
    assert (await engine.states(task)) == {"s1": "enqueued_for_orchestration"}
    assert _row(await _context(engine, task)) == PROCESSING


async def test_a_step_that_was_resolved_by_hand_counts_as_completed(engine: Engine) -> None:
    task = await engine.create(chain(2))
    (step,) = await engine.claim()
    await engine.fail(step, retryable=False)
    await engine.process()
    assert _row(await _context(engine, task)) == BLOCKED
    await engine.operators.resolve_manually(task, step.step_uuid, performed_by="ada", reason="done by hand")
    context = await _context(engine, task)
    assert _row(context) == PROCESSING
    assert (context.completed_steps, context.failed_steps, context.completion_percentage) == (1, 0, 50)


@pytest.mark.parametrize(
    ("bring_about", "fates", "percentage", "health"),
    [
        (_submit, ("done", "running", "running"), 33.33, "healthy"),
        (_submit, ("done", "done", "backoff"), 66.67, "recovering"),
        (_submit, ("done", "error", "backoff"), 33.33, "blocked"),
        (_all_done, (), 100, "healthy"),
        (_no_steps, (), 0, "healthy"),
    ],
)
async def test_percentage_and_health_go_with_it(
    engine: Engine,
    bring_about: Callable[..., Awaitable[UUID]],
    fates: tuple[str, ...],
    percentage: float,
    health: str,
) -> None:
    context = await _context(engine, await bring_about(engine, *fates))
    assert context.completion_percentage == pytest.approx(percentage)
    assert context.health_status == health


async def test_the_steps_are_counted_by_what_they_do(engine: Engine) -> None:
    document = graph(
        {"done": [], "failed": [], "runs": [], "waits": ["runs"], "left": ["failed"], "again": []},
        retry={"backoff_base_ms": 100_000, "max_backoff_ms": 100_000},
    )
    task = await engine.create(document)
    steps = {step.name: step for step in await engine.claim()}
    await engine.succeed(steps["done"])
    await engine.fail(steps["failed"], retryable=False)
    await engine.fail(steps["again"])
    await engine.process()
    context = await _context(engine, task)
    assert (context.total_steps, context.pending_steps, context.in_progress_steps) == (6, 2, 1)
    assert (context.completed_steps, context.failed_steps, context.ready_steps) == (1, 1, 0)
    await engine.move_clock(100)
    assert (await _context(engine, task)).ready_steps == 1
