"""Checkpoints as handlers yield them, without a worker."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tasker.testing import batch_inputs, make_context, run_handler
from tasker.worker import (
    Batchable,
    BatchWorkerContext,
    StepContext,
    StepHandlerResult,
    batch_worker,
    checkpoint_yield,
    step_handler,
)
from tasker.worker.handlers.attempts import Yielded
from tasker.worker.handlers.execution import Execution
from tasker.worker.handlers.sealing import SealedResult
from tests.unit.handlers.styles import Make, styles

Start = Callable[..., Execution]


def test_a_yield_is_a_success_with_a_mark() -> None:
    said = checkpoint_yield(25, 25, {"sum": 3})
    assert said.is_success
    assert said.metadata == {"checkpoint_yield": True}
    assert said.result == {
        "type": "checkpoint_yield",
        "cursor": 25,
        "items_processed": 25,
        "accumulated_results": {"sum": 3},
    }
    assert "accumulated_results" not in Batchable().checkpoint_yield({"page": 2}, 5).result


def test_a_yield_needs_a_place_to_go_on_from() -> None:
    with pytest.raises(ValueError, match="needs a cursor"):
        checkpoint_yield(None, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="counts from the beginning"):
        checkpoint_yield(5, -1)


@styles
async def test_a_yield_is_no_result(make: Make, start: Start) -> None:
    ended = await start(make(lambda: checkpoint_yield(25, 25, {"sum": 3}))).end()
    assert isinstance(ended, Yielded)
    assert json.loads(ended.checkpoint) == {
        "cursor": 25,
        "items_processed": 25,
        "accumulated_results": {"sum": 3},
    }


@pytest.mark.parametrize(
    ("cursor", "stored"),
    [
        (0, 0),
        (2.5, 2.5),
        ("k-7", "k-7"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
        (UUID(int=7), str(UUID(int=7))),
        ({"page": 3, "after": UUID(int=7)}, {"page": 3, "after": str(UUID(int=7))}),
        ([1, "x"], [1, "x"]),
    ],
)
async def test_any_cursor_passes_through_json(cursor: Any, stored: object, start: Start) -> None:

    @step_handler("yields")
    def yields() -> StepHandlerResult:
        return checkpoint_yield(cursor, 1)

    ended = await start(yields).end()
    assert isinstance(ended, Yielded)
    assert json.loads(ended.checkpoint)["cursor"] == stored


def marked(body: object) -> StepHandlerResult:
    return StepHandlerResult.success(body, {"checkpoint_yield": True})


UNSTORABLE: dict[str, tuple[Callable[[], object], str]] = {
    "NUL": (lambda: checkpoint_yield("a\x00b", 1), "cursor holds a NUL character"),
    "NaN": (lambda: checkpoint_yield(1, 1, {"mean": math.nan}), "accumulated_results.mean"),
    "too large": (lambda: checkpoint_yield(1, 1, "x" * 1_100_000), "maximum 1048576"),
    "no JSON": (lambda: checkpoint_yield(1, 1, {"o": object()}), "object"),
    "no cursor": (lambda: marked({"items_processed": 1}), "no cursor"),
    "no count": (lambda: marked({"cursor": 1, "items_processed": "many"}), "items_processed.*'many'"),
    "no object": (lambda: marked(None), "no cursor"),
}


@pytest.mark.parametrize("what", UNSTORABLE)
@styles
async def test_what_cannot_be_stored_fails_the_step(what: str, make: Make, start: Start) -> None:

    say, says = UNSTORABLE[what]
    ended = await start(make(say)).end()
    assert isinstance(ended, SealedResult)
    error = ended.result.error
    assert error is not None
    assert (error.error_type, error.retryable) == ("checkpoint_error", True)
    assert (ended.result.status, ended.result.metadata.error_type) == ("error", "checkpoint_error")
    assert ended.result.metadata.handler_version == "2.1.0"
    assert len(error.message) <= 500
    assert "checkpoint cannot be stored" in error.message
    assert re.search(says, error.message), error.message


async def test_a_failure_or_a_truthy_mark_is_no_checkpoint(start: Start) -> None:
    for said in (
        StepHandlerResult.failure("no", metadata={"checkpoint_yield": True}),
        StepHandlerResult.success({"cursor": 1}, {"checkpoint_yield": "yes"}),
    ):

        @step_handler("says")
        def says(said: StepHandlerResult = said) -> StepHandlerResult:
            return said

        assert isinstance(await start(says).end(), SealedResult)


def seen(cursor: object, items: int = 5) -> dict[str, Any]:
    return {"cursor": cursor, "items_processed": items, "accumulated_results": None}


@pytest.mark.parametrize(
    ("before", "stalls"),
    [
        (None, False),
        (seen({"page": 2}), True),
        (seen({"page": 2}) | {"accumulated_results": {"sum": 1}}, True),
        (seen({"page": 1}), False),
        (seen({"page": 2}, 4), False),
    ],
)
async def test_a_yield_has_to_get_further(before: Any, stalls: bool, start: Start) -> None:
    @step_handler("yields")
    def yields() -> StepHandlerResult:
        return checkpoint_yield({"page": 2}, 5, {"sum": 9})

    ended = await start(yields, checkpoint=before).end()
    assert isinstance(ended, Yielded)
    refused = ended.stalled(before)
    assert (refused is not None) is stalls
    if refused is not None:
        error = refused.result.error
        assert error is not None
        assert (error.error_type, error.retryable) == ("checkpoint_error", True)
        assert "advance the cursor, or raise RetryableError" in error.message


@batch_worker("add_up")
def add_up(batch: BatchWorkerContext, context: StepContext) -> Any:
    """Item i is worth i + 1; four items to a checkpoint."""
    place, total = batch.next_cursor, batch.accumulated_results or 0
    stop = min(place + 4, batch.end_cursor)
    total += sum(range(place + 1, stop + 1))
    if stop == 6 and context.attempt == 1:
        raise ConnectionError("the line is down")
    if stop < batch.end_cursor:
        return checkpoint_yield(stop, stop - batch.start_cursor, total)
    return {"total": total}


async def test_run_handler_follows_the_yields(start: Start) -> None:
    stored: list[Any] = []
    context = make_context(step_inputs=batch_inputs(0, 10))
    result = await run_handler(add_up, context, on_checkpoint=stored.append)
    assert result.result == {"total": 55}
    assert [(one["cursor"], one["items_processed"], one["accumulated_results"]) for one in stored] == [
        (4, 4, 10),
        (8, 8, 36),
    ]
    assert [entry["cursor"] for entry in stored[-1]["history"]] == [4, 8]
    assert stored[-1]["timestamp"] == stored[-1]["history"][-1]["timestamp"]


async def test_run_handler_goes_on_from_a_checkpoint() -> None:
    context = make_context(
        step_inputs=batch_inputs(0, 10),
        checkpoint={"cursor": 8, "items_processed": 8, "accumulated_results": 36},
        attempt=2,
    )
    assert (await run_handler(add_up, context)).result == {"total": 55}


async def test_run_handler_refuses_to_stand_still() -> None:
    @step_handler("waits")
    async def waits() -> StepHandlerResult:
        return checkpoint_yield("here", 0)

    stored: list[Any] = []
    result = await run_handler(waits, on_checkpoint=stored.append)
    assert result.error is not None
    assert result.error.error_type == "checkpoint_error"
    assert [one["cursor"] for one in stored] == ["here"]


async def test_run_handler_can_lose_the_worker_between_two_runs() -> None:
    stored: list[Any] = []

    def lose(checkpoint: Any) -> None:
        stored.append(checkpoint)
        if len(stored) == 1:
            raise SystemError("the worker is gone")

    inputs = batch_inputs(0, 10)
    with pytest.raises(SystemError):
        await run_handler(add_up, make_context(step_inputs=inputs), on_checkpoint=lose)
    again = make_context(step_inputs=inputs, checkpoint=stored[-1], attempt=2)
    assert (await run_handler(add_up, again, on_checkpoint=lose)).result == {"total": 55}
    assert [one["cursor"] for one in stored] == [4, 8]
