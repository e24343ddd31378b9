"""The handlers of the batch with checkpoints."""

from __future__ import annotations

from typing import Any

import pytest

from examples import checkpoints
from examples.checkpoints import Plan, Processed, SoFar
from tasker.testing import make_context
from tasker.worker import BatchAggregationScenario, HandlerError, StepHandlerResult
from tests.unit.examples.contexts import share


def run(plan: Plan, *, attempt: int = 1, cursor: int | None = None, total: int = 0, yields: int = 0) -> Any:
    so_far = SoFar(running_total=total, yields=yields).model_dump()
    batch = share(0, plan.total_items, checkpoint_cursor=cursor, accumulated_results=so_far)
    return checkpoints.process_items(plan, batch, make_context(attempt=attempt))


def test_it_pauses_and_goes_on() -> None:
    paused = run(Plan(total_items=10, items_per_checkpoint=4))
    assert isinstance(paused, StepHandlerResult)
    assert (paused.result["cursor"], paused.result["items_processed"]) == (4, 4)
    assert paused.result["accumulated_results"] == SoFar(running_total=1 + 2 + 3 + 4, yields=1)
    ended = run(Plan(total_items=10, items_per_checkpoint=4), cursor=8, total=36, yields=2)
    assert ended == Processed(items_processed=10, running_total=55, batch_metadata={"yields": 2})


def test_the_last_items_need_no_checkpoint() -> None:
    ended = run(Plan(total_items=8, items_per_checkpoint=4), cursor=4, total=10, yields=1)
    assert ended == Processed(items_processed=8, running_total=36, batch_metadata={"yields": 1})


@pytest.mark.parametrize(
    ("permanent", "attempt", "fails"), [(False, 1, True), (False, 2, False), (True, 2, True)]
)
def test_it_fails_when_it_is_told_to(permanent: bool, attempt: int, fails: bool) -> None:
    plan = Plan(fail_after_items=50, permanent_failure=permanent)
    if not fails:
        assert run(plan, attempt=attempt, cursor=50).result["cursor"] == 75
        return
    with pytest.raises(HandlerError, match="after 50 items") as caught:
        run(plan, attempt=attempt, cursor=50)
    assert caught.value.retryable is not permanent


def test_an_empty_batch_comes_to_nothing() -> None:
    assert checkpoints.analyze_items(Plan(total_items=0)).plan().cursor_configs == []
    totals = checkpoints.aggregate(BatchAggregationScenario({}, {}, is_no_batches=True))
    assert (totals.total_processed, totals.running_total) == (0, 0)


def test_there_is_one_worker_however_many_items() -> None:
    assert len(checkpoints.analyze_items(Plan(total_items=1_000)).plan().cursor_configs) == 1
