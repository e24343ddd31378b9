"""Every entity's history leads, gapless, from `pending` to the state it is in."""

from __future__ import annotations

from itertools import pairwise
from uuid import UUID

import pytest

from tests.support.engine import Engine, chain, diamond, graph
from tests.support.rivals import assert_history_is_whole, duplicate_messages

Walk = list[tuple[int, str, str]]


async def _task_walk(engine: Engine, task: UUID) -> Walk:
    rows = await engine.sql(
        "SELECT sort_key, from_state, to_state FROM tasker.task_transitions WHERE task_uuid = %s ORDER BY sort_key",
        task,
    )
    return [(sort_key, origin, end) for sort_key, origin, end in rows]


async def _step_walk(engine: Engine, task: UUID, name: str) -> Walk:
    rows = await engine.sql(
        "SELECT t.sort_key, t.from_state, t.to_state FROM tasker.workflow_step_transitions t "
        "JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) WHERE task_uuid = %s AND s.name = %s "
        "ORDER BY t.sort_key",
        task,
        name,
    )
    return [(sort_key, origin, end) for sort_key, origin, end in rows]


def _walk(*states: str) -> Walk:
    return [(key, origin, end) for key, (origin, end) in enumerate(pairwise(states), 1)]


async def test_a_chain_completes(any_engine: Engine) -> None:
    task = await any_engine.create(chain(4))
    await any_engine.run(task)
    assert await any_engine.states(task) == {f"s{n}": "complete" for n in (1, 2, 3, 4)}


async def test_a_diamond_completes(engine: Engine) -> None:
    task = await engine.create(diamond())
    await engine.run(task)
    assert await engine.state(task) == "complete"


async def test_what_nothing_has_happened_to_is_pending_with_sort_key_0(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(chain(2))
    rows = await any_engine.sql("SELECT state, sort_key FROM tasker.workflow_steps WHERE name = 's2'")
    assert rows == [("pending", 0)]
    assert await _step_walk(any_engine, task, "s2") == []
    # The task was pending, too, before the transaction that created and started it was over.
    assert await _task_walk(any_engine, task) == _walk("pending", "steps_in_process")


async def test_a_success_makes_four_transitions_of_its_step(
    any_engine: Engine,
) -> None:
    task = await any_engine.create(chain(1))
    await any_engine.run(task)
    assert await _step_walk(any_engine, task, "s1") == _walk(
        "pending", "enqueued", "in_progress", "enqueued_for_orchestration", "complete"
    )
    assert await _task_walk(any_engine, task) == _walk("pending", "steps_in_process", "complete")


async def test_a_retry_is_part_of_the_same_history(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    await any_engine.fail(*await any_engine.claim())
    await any_engine.process()
    await any_engine.move_clock(10)
    await any_engine.timers.tick()
    await any_engine.run(task)
    assert await _step_walk(any_engine, task, "s1") == _walk(
        "pending",
        *("enqueued", "in_progress", "enqueued_as_error_for_orchestration", "waiting_for_retry"),
        *("enqueued", "in_progress", "enqueued_for_orchestration", "complete"),
    )
    assert await _task_walk(any_engine, task) == _walk(
        "pending", "steps_in_process", "waiting_for_retry", "steps_in_process", "complete"
    )


async def test_a_permanent_failure_is_too(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2))
    await any_engine.fail(*await any_engine.claim(), retryable=False)
    await any_engine.process()
    assert (await _step_walk(any_engine, task, "s1"))[-1] == (
        4,
        "enqueued_as_error_for_orchestration",
        "error",
    )
    assert await _task_walk(any_engine, task) == _walk("pending", "steps_in_process", "blocked_by_failures")


@pytest.mark.parametrize(
    "document",
    [chain(4), diamond(), graph({f"s{n}": [] for n in range(5)})],
    ids=["chain", "diamond", "roots"],
)
async def test_no_history_has_a_gap_whatever_happened(engine: Engine, document: dict[str, object]) -> None:
    tasks = [await engine.create(document) for _ in range(4)]
    for lap in range(30):
        steps = await engine.claim()
        for number, step in enumerate(steps):
            match (lap + number) % 4:
                case 0:
                    await engine.fail(step)
                case 1:
                    await engine.move_clock(31)  # its worker is lost
                    await engine.sweep_leases(10)
                    await engine.succeed(step)
                case _:
                    await engine.succeed(step)
        await duplicate_messages(engine, "orchestration_step_results")
        await duplicate_messages(engine, "orchestration_step_judgements")
        await engine.process()
        await engine.move_clock(31)
        await engine.timers.tick()
        await assert_history_is_whole(engine)
    for task in tasks:
        assert await engine.state(task) in ("complete", "blocked_by_failures")
