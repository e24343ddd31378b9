"""How checkpoints are stored: fenced, bounded, and what failures say of how far they are."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from tasker.domain.retry import LEASE
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.operations.renew import Lease
from tests.support.engine import Engine, chain

DOCUMENT = chain(1, retry={"max_attempts": 9, "backoff": "none"})


async def claimed(engine: Engine) -> ClaimedStep:
    """Create a task and claim its step."""
    await engine.create(DOCUMENT)
    (step,) = await engine.claim()
    return step


async def again(engine: Engine) -> ClaimedStep:
    """Let a failure be judged, and claim the step once more."""
    await engine.process()
    await engine.timers.tick()
    (step,) = await engine.claim()
    return step


async def store(engine: Engine, step: ClaimedStep, cursor: object, items: int = 0, **more: object) -> Any:
    text = json.dumps({"cursor": cursor, "items_processed": items} | more)
    return await engine.checkpoint(step.lease, text)


async def fail(engine: Engine, step: ClaimedStep, **context: object) -> None:
    metadata = {"retryable": True, "context": context}
    assert await engine.fail(step, metadata=metadata)


def without_times(checkpoint: Any) -> Any:
    """Return a checkpoint without its instants, which are checked here."""
    assert datetime.fromisoformat(checkpoint["timestamp"]).tzinfo is not None
    rest = {key: value for key, value in checkpoint.items() if key != "timestamp"}
    return rest | {"history": [entry["cursor"] for entry in checkpoint["history"]]}


async def test_a_checkpoint_replaces_the_one_before_and_keeps_its_place(any_engine: Engine) -> None:
    step = await claimed(any_engine)
    await store(any_engine, step, 25, 25, accumulated_results={"sum": 3})
    stored = await store(any_engine, step, {"page": 2}, 50)
    assert without_times(stored) == {
        "cursor": {"page": 2},
        "items_processed": 50,
        "accumulated_results": None,
        "history": [25, {"page": 2}],
    }
    await any_engine.fail(step)
    assert (await again(any_engine)).checkpoint == stored


async def test_only_who_has_the_lease_may(any_engine: Engine) -> None:
    step = await claimed(any_engine)
    for lease in (
        Lease(step.task_uuid, step.step_uuid, uuid4()),
        Lease(step.task_uuid, uuid4(), step.lease_token),
        Lease(uuid4(), step.step_uuid, step.lease_token),
    ):
        assert await any_engine.checkpoint(lease, '{"cursor": 1, "items_processed": 1}') is None
    await any_engine.fail(step)
    assert await store(any_engine, step, 1) is None  # submitted
    newer = await again(any_engine)
    assert await store(any_engine, step, 1) is None  # somebody else's by now
    assert newer.checkpoint is None
    assert await store(any_engine, newer, 1) is not None


async def test_the_history_keeps_the_newest_hundred_and_no_large_places(any_engine: Engine) -> None:

    step = await claimed(any_engine)
    for n in range(103):
        await store(any_engine, step, n, n)
    stored = await store(any_engine, step, {"text": "x" * 5000}, 103)
    assert len(stored["history"]) == 100
    assert [entry["cursor"] for entry in stored["history"]] == [*range(4, 103), None]
    assert stored["cursor"] == {"text": "x" * 5000}


async def test_a_yield_and_a_sweep_at_once_have_one_winner(engine: Engine) -> None:
    """Whichever comes first: the checkpoint is stored and the lease goes on, or the step is lost without it."""
    await engine.sweeper.tick()
    for _ in range(20):
        step = await claimed(engine)
        await engine.move_clock(LEASE.total_seconds() + 1)
        stored, _ = await asyncio.gather(store(engine, step, 7, 7), engine.sweeper.tick())
        ((state, checkpoint, leased),) = await engine.sql(
            "SELECT s.state, s.checkpoint, l.expires_at > tasker.now() FROM tasker.workflow_steps s "
            "LEFT JOIN tasker.step_leases l USING (task_uuid, step_uuid) WHERE s.task_uuid = %s",
            step.task_uuid,
        )
        expected = (
            ("in_progress", stored, True) if stored else ("enqueued_as_error_for_orchestration", None, None)
        )
        assert (state, checkpoint, leased) == expected
        if stored:
            await engine.succeed(step)


async def test_how_far_a_failure_says_it_came_is_kept(any_engine: Engine) -> None:
    step = await claimed(any_engine)
    await fail(any_engine, step, checkpoint_progress=50, processed_before_failure=49, resumed_from=0)
    step = await again(any_engine)
    assert without_times(step.checkpoint) == {
        "cursor": 50,
        "items_processed": 49,
        "accumulated_results": None,
        "history": [50],
        "resumed_from": 0,
    }
    # The newest word counts, and what it does not say stays.
    await fail(any_engine, step, checkpoint_progress={"page": 8}, accumulated_results={"sum": 4})
    step = await again(any_engine)
    assert without_times(step.checkpoint) == {
        "cursor": {"page": 8},
        "items_processed": 49,
        "accumulated_results": {"sum": 4},
        "history": [50, {"page": 8}],
    }
    # Without a word everything stays.
    for context in ({}, {"checkpoint_progress": None}, {"processed_before_failure": 99}):
        await fail(any_engine, step, **context)
        after = await again(any_engine)
        assert after.checkpoint == step.checkpoint
        step = after


async def test_a_yield_of_the_attempt_wins_over_its_failure(any_engine: Engine) -> None:

    step = await claimed(any_engine)
    await store(any_engine, step, 25, 25)
    await fail(any_engine, step, checkpoint_progress=10)
    step = await again(any_engine)
    assert (step.checkpoint or {})["cursor"] == 25
    await fail(any_engine, step, checkpoint_progress=40)  # this attempt did not yield
    assert ((await again(any_engine)).checkpoint or {})["cursor"] == 40


async def test_a_reset_keeps_how_far_a_failure_came(
    engine: Engine,
) -> None:
    step = await claimed(engine)
    metadata = {"retryable": False, "context": {"checkpoint_progress": "k-7", "processed_before_failure": 7}}
    await engine.fail(step, retryable=False, metadata=metadata)
    await engine.process()
    assert (await engine.states(step.task_uuid))["s1"] == "error"
    await engine.operators.reset_for_retry(
        step.task_uuid, step.step_uuid, performed_by="ada", reason="mended"
    )
    (retried,) = await engine.claim()
    assert (retried.attempt, (retried.checkpoint or {})["cursor"]) == (1, "k-7")


async def test_a_success_clears_the_checkpoint_and_a_loss_does_not(any_engine: Engine) -> None:
    step = await claimed(any_engine)
    await store(any_engine, step, 25, 25)
    await any_engine.sweeper.tick()
    await any_engine.move_clock(LEASE.total_seconds() + 1)
    await any_engine.sweeper.tick()
    step = await again(any_engine)
    assert (step.attempt, (step.checkpoint or {})["cursor"]) == (2, 25)
    await any_engine.succeed(step)
    assert await checkpoint_of(any_engine, step.step_uuid) is None


async def checkpoint_of(engine: Engine, step: UUID) -> Any:
    ((found,),) = await engine.sql("SELECT checkpoint FROM tasker.workflow_steps WHERE step_uuid = %s", step)
    return found
