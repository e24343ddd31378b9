"""What handlers return and raise, as a real worker stores it, in every style."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ValidationError

from tasker.worker import (
    HandlerRegistry,
    PermanentError,
    RetryableError,
    StepContext,
    StepExecutionError,
    StepHandler,
    StepHandlerResult,
    step_handler,
)
from tests.integration.runtime.conftest import StartWorker
from tests.integration.runtime.stored import STYLES, Body, recorded
from tests.support.engine import Engine, graph


class Line(BaseModel):
    sku: str
    price: Decimal


@dataclass
class Parcel:
    number: UUID
    lines: list[Line]


NUMBER = UUID("01980000-0000-7000-8000-000000000001")
LINE = Line(sku="a", price=Decimal("1.50"))
STORED_LINE = {"sku": "a", "price": "1.50"}


def yields() -> Iterator[int]:
    yield 1


#: What a handler returns, and the object that is stored for it.
RETURNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "object": ({"a": 1, "b": [True, None]}, {"a": 1, "b": [True, None]}),
    "nothing": (None, {}),
    "number": (7, {"result": 7}),
    "falsehood": (False, {"result": False}),
    "text": ("done", {"result": "done"}),
    "list": ([1, "x"], {"result": [1, "x"]}),
    "model": (LINE, STORED_LINE),
    "models": ({"lines": [LINE]}, {"lines": [STORED_LINE]}),
    "dataclass": (Parcel(NUMBER, [LINE]), {"number": str(NUMBER), "lines": [STORED_LINE]}),
    "key_result": ({"result": {"result": 1}}, {"result": {"result": 1}}),
    "explicit": (StepHandlerResult.success({"a": 1}), {"a": 1}),
    "explicit_model": (StepHandlerResult.success(LINE), STORED_LINE),
    "explicit_nothing": (StepHandlerResult.success(), {}),
}
#: What nobody can store: each is a permanent failure, and none stops the worker.
JUNK: dict[str, Any] = {
    "an_object": object(),
    "a_class": StepHandlerResult,
    "a_module": itertools,
    "generator": yields(),
    "iterator": map(str, [1]),
    "not_a_number": {"n": float("nan")},
    "nul": "\0",
    "bytes": {"b": b"\xff\xfe"},
    "function": {"f": len},
    "bad_metadata": StepHandlerResult.success({}, metadata={"o": object()}),
    "metadata_no_object": StepHandlerResult.success({}, metadata="text"),  # type: ignore[arg-type]
}


class DeclinedError(PermanentError):
    error_type = "card_declined"


def misread(context: StepContext) -> Any:
    return Line.model_validate({"sku": 3})


#: What a handler raises, whether it may be tried again, and as what it is stored.
RAISES: dict[str, tuple[Exception, bool, str]] = {
    "permanent": (PermanentError("x"), False, "permanent_error"),
    "own_kind": (DeclinedError("x"), False, "card_declined"),
    "value": (ValueError("x"), False, "permanent_error"),
    "type": (TypeError("x"), False, "permanent_error"),
    "key": (KeyError("x"), False, "permanent_error"),
    "no_file": (FileNotFoundError("x"), False, "permanent_error"),
    "retryable": (RetryableError("x"), True, "retryable_error"),
    "overruled": (RetryableError("x", retryable=False), False, "permanent_error"),
    "named": (StepExecutionError("x", "database_gone"), True, "database_gone"),
    "connection": (ConnectionResetError("x"), True, "retryable_error"),
    "timeout": (TimeoutError("x"), True, "retryable_error"),
    "os": (OSError("x"), True, "retryable_error"),
    "unknown": (RuntimeError("x"), True, "handler_error"),
}


def registry_with(style: str, body: Body) -> HandlerRegistry:
    """Return a registry whose handler `work` does what `body` does."""
    registry = HandlerRegistry()
    registry.register(STYLES[style](body), name="work")
    return registry


@pytest.mark.parametrize("style", STYLES)
async def test_every_return_reaches_a_result(engine: Engine, start_worker: StartWorker, style: str) -> None:
    values = {name: value for name, (value, _) in RETURNS.items()} | JUNK
    document = graph({name: [] for name in values})
    task = await engine.create(document)
    await start_worker(document, registry=registry_with(style, lambda context: values[context.step_name]))
    found = await recorded(engine, task, results=len(values))
    assert {name: found[name].result for name in RETURNS} == {
        name: want for name, (_, want) in RETURNS.items()
    }
    for name in RETURNS:
        assert (found[name].state, found[name].status, found[name].error) == ("complete", "completed", None)
    for name in JUNK:
        error = found[name].error
        assert (error["error_type"], error["retryable"]) == ("result_serialization_error", False), name
        assert found[name].state == "error"
        assert found[name].metadata["custom"] == {"original_success": True}
    assert len(found) == len(values)


@pytest.mark.parametrize("style", STYLES)
async def test_errors_mean_the_same_in_every_style(
    engine: Engine, start_worker: StartWorker, style: str
) -> None:
    def fail(context: StepContext) -> Any:
        if context.step_name == "misread":
            return misread(context)
        raise RAISES[context.step_name][0]

    document = graph({name: [] for name in (*RAISES, "misread")})
    task = await engine.create(document)
    await start_worker(document, registry=registry_with(style, fail))
    found = await recorded(engine, task, results=len(RAISES) + 1)
    expected = RAISES | {"misread": (ValidationError("", []), False, "permanent_error")}
    for name, (error, retryable, error_type) in expected.items():
        stored = found[name]
        assert (stored.error["error_type"], stored.error["retryable"]) == (error_type, retryable), name
        assert stored.metadata["retryable"] is retryable, name
        assert stored.state == ("waiting_for_retry" if retryable else "error"), name
        assert stored.metadata["context"]["exception_class"] == type(error).__name__
        assert "Traceback" in stored.metadata["context"]["traceback"]
        assert stored.error["backtrace"]


@pytest.mark.parametrize("style", STYLES)
async def test_a_failure_that_is_returned_counts_as_one(
    engine: Engine, start_worker: StartWorker, style: str
) -> None:
    answers = {
        "again": StepHandlerResult.failure("not yet"),
        "never": StepHandlerResult.failure("no", "out_of_stock", False, {"left": 0}, "E7"),
        "later": StepHandlerResult.failure("busy", retry_after=90),
    }
    document = graph({name: [] for name in answers})
    task = await engine.create(document)
    await start_worker(document, registry=registry_with(style, lambda context: answers[context.step_name]))
    found = await recorded(engine, task, results=3)
    assert (found["again"].error["error_type"], found["again"].state) == (
        "handler_error",
        "waiting_for_retry",
    )
    never = found["never"]
    assert (never.error["error_type"], never.error["message"], never.state) == ("out_of_stock", "no", "error")
    assert (never.metadata["error_code"], never.metadata["context"]) == ("E7", {"left": 0})
    assert found["later"].orchestration["backoff_hint"]["delay_seconds"] == 90
    assert {row.status for row in found.values()} == {"failed"}


@pytest.mark.parametrize("style", ["function", "class"])
async def test_notes_of_the_author_and_the_version_are_in_the_stored_result(
    engine: Engine, start_worker: StartWorker, style: str
) -> None:
    def answer(step_name: str) -> StepHandlerResult:
        if step_name == "done":
            return StepHandlerResult.success({"rows": 3}, {"source": "cache", "at": NUMBER})
        return StepHandlerResult.failure("no", retryable=False, metadata={"source": "disk"})

    @step_handler("work", version="2.1.0")
    def work(context: StepContext) -> StepHandlerResult:
        return answer(context.step_name)

    class Work(StepHandler):
        handler_name = "work"
        handler_version = "2.1.0"

        def call(self, context: StepContext) -> StepHandlerResult:
            return answer(context.step_name)

    registry = HandlerRegistry()
    registry.register(work if style == "function" else Work)
    document = graph({"done": [], "failed": []})
    task = await engine.create(document)
    worker = await start_worker(document, registry=registry)
    found = await recorded(engine, task, results=2)
    assert found["done"].metadata["custom"] == {"source": "cache", "at": str(NUMBER)}
    assert found["failed"].metadata["context"] == {"source": "disk"}
    for row in found.values():
        assert row.metadata["handler_version"] == "2.1.0"
        assert row.metadata["worker_id"] == f"worker_{worker.worker_uuid}"
        assert row.metadata["worker_hostname"]
        assert row.metadata["started_at"] <= row.metadata["completed_at"]
