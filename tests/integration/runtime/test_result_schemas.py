"""Results against the `result_schema` of their step."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.integration.runtime.conftest import StartWorker
from tests.integration.runtime.stored import run_to_the_end
from tests.support.engine import Engine, graph
from tests.support.workshop import Workshop

SCHEMA = {
    "type": "object",
    "required": ["total"],
    "properties": {"total": {"type": "integer", "minimum": 0}, "note": {"type": "string"}},
}
RETURNED: dict[str, Any] = {"right": {"total": 3}, "wrong": {"total": -1, "note": 5}}


async def run(
    engine: Engine, workshop: Workshop, start_worker: StartWorker, **settings: Any
) -> tuple[Any, Any, list[Any]]:
    """Run both steps; return their rows and what the log says of results."""
    workshop.behaviours = {name: lambda context: RETURNED[context.step_name] for name in RETURNED}
    document = graph({name: [] for name in RETURNED}, result_schema=SCHEMA)
    task = await engine.create(document)
    with capture_logs() as logs:
        await start_worker(document, **settings)
        found = await run_to_the_end(engine, task)
    return found["right"], found["wrong"], [line for line in logs if line["event"] == "result_schema_broken"]


async def test_a_result_that_breaks_its_schema_is_remarked(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    right, wrong, remarks = await run(engine, workshop, start_worker)
    assert (right.state, wrong.state) == ("complete", "complete")
    assert wrong.result == RETURNED["wrong"]
    (remark,) = remarks
    assert (remark["step_name"], remark["fields"]) == ("wrong", ["note", "total"])
    assert (remark["log_level"], remark["template"]) == ("warning", "test/workflow:1.0.0")


async def test_a_result_that_breaks_its_schema_fails_the_step_where_it_is_enforced(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    right, wrong, remarks = await run(engine, workshop, start_worker, result_validation="enforce")
    assert (right.state, right.result, wrong.state, wrong.result) == ("complete", {"total": 3}, "error", {})
    assert (wrong.error["error_type"], wrong.error["retryable"], wrong.status) == (
        "validation_error",
        False,
        "error",
    )
    assert "total: -1 is less than the minimum of 0" in wrong.error["message"]
    assert [one["field"] for one in wrong.error["context"]["fields"]] == ["note", "total"]
    assert wrong.metadata["custom"] == {"original_success": True}
    assert remarks == []


async def test_nobody_looks_where_it_is_off(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    _, wrong, remarks = await run(engine, workshop, start_worker, result_validation="off")
    assert (wrong.state, remarks) == ("complete", [])


@pytest.mark.parametrize("returned", [{"deep": {"total": "x" * 5000}}, {"total": ["y" * 5000]}])
async def test_a_long_complaint_is_cut(
    engine: Engine, workshop: Workshop, start_worker: StartWorker, returned: Any
) -> None:
    workshop.behaviours["s1"] = lambda _: returned
    document = graph(
        {"s1": []}, result_schema={"additionalProperties": {"type": "integer"}, "minProperties": 9}
    )
    task = await engine.create(document)
    await start_worker(document, result_validation="enforce")
    error = (await run_to_the_end(engine, task))["s1"].error
    assert len(error["message"]) <= 2000
    assert all(len(one["description"]) <= 500 for one in error["context"]["fields"])


async def test_a_pattern_that_would_take_others_forever_holds_no_worker_up(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    workshop.behaviours = {"fast": lambda context: {"title": "a" * 500_000 + "!"}}
    document = graph({"fast": []}, result_schema={"properties": {"title": {"pattern": "^(a+)+$"}}})
    task = await engine.create(document)
    await start_worker(document, result_validation="enforce")
    fast = (await run_to_the_end(engine, task))["fast"]
    assert fast.error["error_type"] == "validation_error"
    assert len(fast.error["message"]) < 1000  # not the whole text again
