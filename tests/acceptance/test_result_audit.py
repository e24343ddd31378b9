"""One audit row for each result of a worker, with every scalar."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.support.engine import Engine, chain, graph
from tests.support.rivals import duplicate_messages, now

_SCALARS = (
    "task_uuid, step_uuid, step_name, sort_key, attempt, from_state, to_state, recorded_at, worker_uuid, "
    "correlation_id, success, execution_time_ms, status"
)


async def _audit(engine: Engine, task: UUID, columns: str = _SCALARS) -> list[tuple[Any, ...]]:
    return await engine.sql(
        f"SELECT {columns} FROM tasker.workflow_step_result_audit WHERE task_uuid = %s ORDER BY recorded_at",
        task,
    )


async def test_every_scalar_is_there(any_engine: Engine) -> None:
    correlation = UUID("0197b7f2-7c1e-7d3a-9c55-3f0f6d1a2b4c")
    task = await any_engine.create(chain(1), correlation_id=correlation)
    (step,) = await any_engine.claim()
    before = await now(any_engine)
    await any_engine.fail(step, metadata={"retryable": True, "execution_time_ms": 1234})
    await any_engine.process()
    await any_engine.move_clock(60)
    await any_engine.timers.tick()
    (again,) = await any_engine.claim()
    await any_engine.succeed(again)
    await any_engine.process()

    rows = await _audit(any_engine, task)
    assert all(value is not None for row in rows for value in row)
    failure, success = rows
    same = (task, step.step_uuid, "s1")
    assert failure[:7] == (*same, 3, 1, "in_progress", "enqueued_as_error_for_orchestration")
    assert failure[8:] == (any_engine.worker_uuid, correlation, False, 1234, "failed")
    assert success[:7] == (*same, 7, 2, "in_progress", "enqueued_for_orchestration")
    assert success[8:] == (any_engine.worker_uuid, correlation, True, 1, "completed")
    assert before <= failure[7] < success[7]


async def test_a_result_that_is_delivered_thrice_makes_one_row(any_engine: Engine) -> None:
    task = await any_engine.create(graph({"good": [], "bad": []}))
    bad, good = sorted(await any_engine.claim(), key=lambda step: step.name)
    await any_engine.succeed(good)
    await any_engine.fail(bad, retryable=False)
    for _ in range(2):
        assert await any_engine.succeed(good) == set()
        assert await any_engine.fail(bad) == set()
    for queue in ("orchestration_step_results", "orchestration_step_judgements"):
        await duplicate_messages(any_engine, queue, copies=2)
    await any_engine.process()
    assert sorted(await _audit(any_engine, task, "step_name, attempt, success")) == [
        ("bad", 1, False),
        ("good", 1, True),
    ]


async def test_what_was_never_accepted_is_not_audited(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    await any_engine.operators.cancel(task)
    assert await any_engine.succeed(step) == set()
    assert await _audit(any_engine, task) == []


async def test_a_lost_worker_is_audited_as_the_one_that_had_the_step(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    await any_engine.claim()
    await any_engine.move_clock(31)
    await any_engine.sweep_leases(10)
    rows = await _audit(any_engine, task, "worker_uuid, success, status, error ->> 'error_type'")
    assert rows == [(any_engine.worker_uuid, False, "error", "worker_lost")]


async def test_what_an_operator_supplies_is_no_result_of_a_worker(any_engine: Engine) -> None:
    task = await any_engine.create(chain(2))
    step = (await any_engine.steps(task))["s1"].step_uuid
    await any_engine.operators.complete_manually(
        task, step, result={"n": 1}, performed_by="ada", reason="done by hand"
    )
    assert await _audit(any_engine, task) == []
    await any_engine.run(task)
    assert await _audit(any_engine, task, "step_name") == [("s2",)]


async def test_a_reset_keeps_what_was_audited(any_engine: Engine) -> None:
    task = await any_engine.create(chain(1))
    (step,) = await any_engine.claim()
    await any_engine.fail(step, retryable=False)
    await any_engine.process()
    await any_engine.operators.reset_for_retry(task, step.step_uuid, performed_by="ada", reason="repaired")
    await any_engine.run(task)
    assert await _audit(any_engine, task, "attempt, success") == [(1, False), (1, True)]
