"""What a handler sees of the steps before it."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest

from tasker.persistence.operations.claim import (
    HYDRATION_BYTES,
    MAX_DEPENDENCY_BYTES,
    ClaimedStep,
    DependenciesTooLargeError,
)
from tests.support.engine import Engine, chain, graph

#: One long branch, one short one beside it, and a join of both.
BRANCHES = graph(
    {
        "root": [],
        "one": ["root"],
        "two": ["one"],
        "three": ["two"],
        "beside": ["root"],
        "join": ["three", "beside"],
    }
)


async def _run_until(engine: Engine, wanted: str) -> ClaimedStep:
    """Let steps return their own name until one of this name is claimed."""
    for _ in range(10):
        steps = {step.name: step for step in await engine.claim()}
        if wanted in steps:
            return steps[wanted]
        for step in steps.values():
            await engine.succeed(step, result={"by": step.name})
        await engine.process()
    raise AssertionError(f"step {wanted!r} is never claimed")


async def test_a_handler_reads_results_three_hops_up_and_none_from_beside(
    any_engine: Engine,
) -> None:
    await any_engine.create(BRANCHES)
    step = await _run_until(any_engine, "three")
    assert step.dependencies == {name: {"by": name} for name in ("root", "one", "two")}
    # The sibling's result is there, in the task, and none of its business.
    assert await any_engine.sql('SELECT 1 FROM tasker.step_results WHERE result = \'{"by": "beside"}\'')


async def test_a_root_sees_nothing_and_a_join_sees_all(any_engine: Engine) -> None:
    await any_engine.create(BRANCHES)
    (root,) = await any_engine.claim()
    assert (root.dependencies, root.hydrated) == ({}, True)
    await any_engine.succeed(root, result={"by": "root"})
    await any_engine.process()
    join = await _run_until(any_engine, "join")
    assert join.dependencies == {name: {"by": name} for name in ("root", "one", "two", "three", "beside")}


async def test_of_a_step_that_ran_twice_the_newest_result_is_seen(
    engine: Engine,
) -> None:
    await engine.create(chain(3))
    await engine.fail(*await engine.claim())
    await engine.process()
    await engine.move_clock(10)
    await engine.timers.tick()
    await engine.succeed(*await engine.claim(), result={"attempt": 2})
    await engine.process()
    (step,) = await engine.claim()
    assert step.dependencies == {"s1": {"attempt": 2}}


async def test_a_step_resolved_by_hand_supplies_no_result(engine: Engine) -> None:
    task = await engine.create(chain(2))
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    await engine.database.execute(
        "UPDATE tasker.workflow_steps SET state = CASE name WHEN 's1' THEN 'resolved_manually' ELSE 'pending' END, "
        "unmet_parents = 0 WHERE task_uuid = %s",
        (task,),
    )
    await engine.reconcile(UUID(int=0), 10, engine.reconciler._grace * 0)
    (step,) = await engine.claim()
    assert (step.name, step.dependencies) == ("s2", {})


# hydration is capped, then fetched lazily


def _incompressible(size: int) -> dict[str, Any]:
    noise = random.Random(size)
    return {f"part_{n}": noise.randbytes(4000).hex() for n in range(-(-size // 8000))}


async def test_what_fits_travels_with_the_claim(any_engine: Engine) -> None:
    context = _incompressible(HYDRATION_BYTES // 3)
    await any_engine.create(chain(2), context)
    result = _incompressible(HYDRATION_BYTES // 3)
    await any_engine.succeed(*await any_engine.claim(), result=result)
    await any_engine.process()
    (step,) = await any_engine.claim()
    assert (step.context, step.dependencies, step.hydrated) == (context, {"s1": result}, True)


async def test_a_large_context_stays_behind_until_it_is_fetched(any_engine: Engine) -> None:
    context = _incompressible(2 * HYDRATION_BYTES)
    await any_engine.create(chain(2), context)
    (first,) = await any_engine.claim()
    assert (first.context, first.hydrated) == (None, False)
    await any_engine.succeed(first, result={"small": True})
    await any_engine.process()
    (step,) = await any_engine.claim()
    assert (step.context, step.dependencies, step.hydrated) == (None, {}, False)
    await any_engine.hydrate(step)
    assert (step.context, step.dependencies, step.hydrated) == (context, {"s1": {"small": True}}, True)


@pytest.mark.parametrize(
    "size", [HYDRATION_BYTES * 2, HYDRATION_BYTES * 3 // 4], ids=["one too large", "too large together"]
)
async def test_large_results_stay_behind_until_they_are_fetched(any_engine: Engine, size: int) -> None:
    await any_engine.create(chain(3), {"n": 1})
    results = {"s1": _incompressible(size), "s2": _incompressible(size + 1)}
    for name in ("s1", "s2"):
        (step,) = await any_engine.claim()
        assert step.name == name
        await any_engine.succeed(step, result=results[name])
        await any_engine.process()
    (step,) = await any_engine.claim()
    assert (step.context, step.dependencies, step.hydrated) == (None, {}, False)
    await any_engine.hydrate(step)
    assert (step.context, step.dependencies, step.hydrated) == ({"n": 1}, results, True)


async def grown(engine: Engine, task: UUID, copies: int) -> None:
    """Give a task's finished steps results of a megabyte each, as if they had returned them."""
    await engine.sql(
        "UPDATE tasker.step_results SET result = jsonb_build_object('blob', repeat('x', %s)) "
        "WHERE task_uuid = %s RETURNING 1", 1_000_000, task,
    )  # fmt: skip
    assert copies * 1_000_000 > MAX_DEPENDENCY_BYTES


async def test_results_that_are_too_much_for_a_worker_are_not_even_put_together(any_engine: Engine) -> None:
    count = 265
    document = graph({f"p{n:03d}": [] for n in range(count)} | {"total": [f"p{n:03d}" for n in range(count)]})
    task = await any_engine.create(document)
    while (claimed := await any_engine.claim())[0].name != "total":
        await any_engine.succeed(*claimed)
        await any_engine.process()
    (total,) = claimed
    await grown(any_engine, task, count)
    total.hydrated = False
    with pytest.raises(
        DependenciesTooLargeError, match=r"of the 265 steps .* take 253 MiB together, maximum 64 MiB"
    ):
        await any_engine.hydrate(total)
