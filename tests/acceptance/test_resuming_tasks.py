"""A task that ended in `error` although no step of it failed goes on where it was."""

from __future__ import annotations

import pytest

from tasker.domain.errors import GuardFailedError, InvalidTaskTransitionError, TaskNotFoundError
from tasker.domain.uuids import uuid7
from tests.support.engine import Engine, chain
from tests.support.rivals import assert_history_is_whole
from tests.support.stuck import STUCK_STATES, Detection, minutes, stuck_task

WHO = {"performed_by": "ann", "reason": "the worker is back"}


@pytest.mark.parametrize("state", [state for state in STUCK_STATES if state != "waiting_for_dependencies"])
async def test_a_task_that_stood_still_is_resumed_and_completes(engine: Engine, state: str) -> None:
    detection = Detection(engine)
    task = await stuck_task(engine, state)
    await minutes(engine, 61)
    await detection.detect()
    await detection.close()
    assert await engine.state(task) == "error"
    await engine.operators.resume(task, **WHO)
    await minutes(engine, 2)
    await engine.reconciler.tick()  # what was lost is sent again
    await engine.process()
    await engine.run(task)
    assert await engine.state(task) == "complete"
    ((metadata,),) = await engine.sql(
        "SELECT metadata FROM tasker.task_transitions WHERE task_uuid = %s AND from_state = 'error' ", task
    )
    assert metadata == {"event": "reset", **WHO}
    await assert_history_is_whole(engine, task)


async def test_where_a_step_failed_that_step_is_acted_on(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    with pytest.raises(GuardFailedError, match=r"^the task cannot be resumed: 1 of its steps failed; reset"):
        await engine.operators.resume(task, **WHO)
    assert await engine.state(task) == "blocked_by_failures"


async def test_only_tasks_in_error_are_resumed(engine: Engine) -> None:
    task = await engine.create(chain(1))
    with pytest.raises(
        InvalidTaskTransitionError,
        match=r"^the task cannot be resumed: it is steps_in_process, and goes on by itself$",
    ):
        await engine.operators.resume(task, **WHO)
    await engine.operators.cancel(task)
    over = "^the task cannot be {}: it is cancelled, and nothing can be done to it any more$"
    with pytest.raises(InvalidTaskTransitionError, match=over.format("resumed")) as refused:
        await engine.operators.resume(task, **WHO)
    assert refused.value.metadata == {"entity": "task", "state": "cancelled", "event": "reset"}
    with pytest.raises(InvalidTaskTransitionError, match=over.format("retried")):
        await engine.operators.retry(task, **WHO)
    with pytest.raises(
        InvalidTaskTransitionError, match=r"^the task's messages cannot be sent again: it is cancelled"
    ):
        await engine.operators.requeue(task, **WHO)
    with pytest.raises(TaskNotFoundError):
        await engine.operators.resume(uuid7(), **WHO)
