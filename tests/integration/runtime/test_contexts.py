"""What a handler is told: attempts, inputs, configuration, results of earlier steps."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from tasker.persistence.operations import claim
from tasker.worker import (
    Config,
    Dep,
    HandlerRegistry,
    RetryableError,
    StepContext,
    StepHandler,
    step_handler,
)
from tests.integration.runtime.conftest import StartWorker
from tests.integration.runtime.stored import recorded, run_to_the_end, settled
from tests.support.engine import Engine, graph
from tests.support.waiting import until
from tests.support.workshop import Workshop


async def test_attempts_are_counted_from_zero_and_the_last_one_is_known(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    def fail(context: StepContext) -> Any:
        raise RetryableError("again")

    workshop.behaviours["s1"] = fail
    document = graph({"s1": []}, retry={"max_attempts": 3, "backoff": "none"})
    task = await engine.create(document)
    await start_worker(document)
    for attempts in (1, 2, 3):
        await recorded(engine, task, results=attempts)
        await engine.move_clock(60)
        await engine.timers.tick()
    assert await engine.state(task) == "blocked_by_failures"
    seen = [
        (one.retry_count, one.attempt, one.max_retries, one.is_retry(), one.is_last_retry())
        for one in workshop.calls
    ]
    assert seen == [(0, 1, 3, False, False), (1, 2, 3, True, False), (2, 3, 3, True, True)]
    assert len({one.idempotency_key for one in workshop.calls}) == 1


class Answer(BaseModel):
    result: dict[str, int]
    other: str


async def test_a_result_with_a_key_called_result_arrives_whole(
    engine: Engine, start_worker: StartWorker
) -> None:
    registry = HandlerRegistry()
    registry.register(lambda: {"result": {"deep": 1}, "other": "kept"}, name="both")
    registry.register(lambda: {"result": {"result": 2}}, name="alone")
    registry.register(lambda: 7, name="bare")

    @step_handler("reads")
    def reads(
        context: StepContext,
        both: Annotated[Answer, Dep("both")],
        alone: Annotated[dict[str, Any], Dep("alone")],
        bare: Annotated[int, Dep("bare")],
    ) -> dict[str, Any]:
        return {
            "whole": context.get_dependency_result("both"),
            "field": context.get_dependency_field("both", "result", "deep"),
            "alone": context.get_dependency_result("alone"),
            "typed": [both.model_dump(), alone, bare],
        }

    registry.register(reads)
    names = ("both", "alone", "bare")
    document = graph({}) | {
        "steps": [
            *({"name": name, "handler": name} for name in names),
            {"name": "reads", "handler": "reads", "dependencies": list(names)},
        ]
    }
    task = await engine.create(document)
    await start_worker(document, registry=registry)
    found = await run_to_the_end(engine, task)
    whole = {"result": {"deep": 1}, "other": "kept"}
    assert found["reads"].result == {
        "whole": whole,
        "field": 1,
        "alone": {"result": {"result": 2}},
        "typed": [whole, {"result": {"result": 2}}, 7],
    }


class Charge(StepHandler):
    handler_name = "charge"

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def call(self, context: StepContext) -> Any:
        return {"constructor": self.config, "context": dict(context.step_config)}


@step_handler("notify")
async def notify(
    everything: Annotated[dict[str, Any], Config()], currency: Annotated[str, Config("currency")]
) -> Any:
    return {"everything": everything, "currency": currency}


async def test_the_initialization_of_the_template_reaches_the_handler(
    engine: Engine, start_worker: StartWorker
) -> None:
    registry = HandlerRegistry()
    registry.register(Charge)
    registry.register(notify)
    given = {"currency": "EUR", "limit": 5}
    document = graph({}) | {
        "steps": [
            {"name": name, "handler": {"callable": name, "initialization": given}}
            for name in ("charge", "notify")
        ],
        # The environment of the engine under test.
        "environments": {
            "test": {"steps": [{"name": "charge", "handler": {"initialization": {"limit": 9}}}]}
        },
    }
    task = await engine.create(document)
    await start_worker(document, registry=registry)
    found = await run_to_the_end(engine, task)
    assert found["charge"].result == {"constructor": given | {"limit": 9}, "context": given | {"limit": 9}}
    assert found["notify"].result == {"everything": given, "currency": "EUR"}


async def test_a_handler_sees_its_task_its_ancestors_and_its_deadline(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    workshop.behaviours["s2"] = lambda context: {"left": context.remaining_seconds()}
    document = graph({"s1": [], "s2": ["s1"], "s3": ["s2"]}, timeout_seconds=20)
    task = await engine.create(document, {"sku": "a", "note": None})
    await start_worker(document)
    await until(lambda: settled(engine, task))
    last = workshop.calls[-1]
    steps = await engine.steps(task)
    ((correlation_id,),) = await engine.sql("SELECT correlation_id FROM tasker.tasks")
    assert (last.task_uuid, last.step_uuid, last.correlation_id) == (
        task,
        steps["s3"].step_uuid,
        correlation_id,
    )
    assert (last.namespace, last.task_name, last.task_version) == ("test", "workflow", "1.0.0")
    assert (last.step_name, last.handler_name, last.dependencies) == ("s3", "work", ("s2",))
    assert last.get_dependency_result_keys() == ["s1", "s2"]  # not the direct parents alone
    assert (last.get_input("sku"), last.get_input_or("note", "none"), last.get_input("ghost")) == (
        "a",
        "none",
        None,
    )
    assert 0 < last.dependency_results["s2"]["left"] <= 20
    assert last.task_sequence_step.workflow_step.attempts == 1


async def test_a_handler_is_told_that_its_time_is_over(engine: Engine, start_worker: StartWorker) -> None:
    told: list[str | None] = []

    def waits(context: StepContext) -> None:
        context.cancelled.wait(30)
        told.append(context.cancelled.reason)

    async def sleeps(context: StepContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append(context.cancelled.reason)

    registry = HandlerRegistry()
    registry.register(waits, name="waits")
    registry.register(sleeps, name="sleeps")
    document = graph({}) | {
        "steps": [{"name": name, "handler": name, "timeout_seconds": 1} for name in ("waits", "sleeps")]
    }
    task = await engine.create(document)
    await start_worker(document, registry=registry)
    await recorded(engine, task, results=2)
    await until(lambda: len(told) == 2)
    assert told == ["timeout", "timeout"]


async def test_more_results_than_a_worker_can_hold_end_the_step_with_a_word(
    engine: Engine, workshop: Workshop, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "MAX_DEPENDENCY_BYTES", 1024 * 1024)
    noise = secrets.token_hex(300_000)
    workshop.behaviours |= {name: lambda context: {"noise": noise} for name in ("a", "b")}
    document = graph({"a": [], "b": [], "total": ["a", "b"]})
    task = await engine.create(document)
    await start_worker(document)
    found = await run_to_the_end(engine, task)
    total = found["total"]
    assert (total.state, total.attempt, total.error["error_type"]) == ("error", 1, "dependencies_too_large")
    assert total.error["message"] == (
        "the results of the 2 steps that this one descends from take 2 MiB together, maximum 1 MiB; "
        "keep the data elsewhere, and return where it is"
    )
    assert [one.step_name for one in workshop.calls if one.step_name == "total"] == []
