"""Whatever a handler returns or raises becomes a result: it ends, in time, and takes nothing else along."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from pydantic import BaseModel, Field, computed_field

from tasker.domain.results import StepExecutionResult
from tasker.testing import make_context, run_handler
from tasker.worker import StepContext, StepHandlerResult, checkpoint_yield, step_handler
from tasker.worker.handlers.execution import Execution
from tasker.worker.handlers.functions import marked_handler
from tasker.worker.handlers.jsonable import MAX_VALUES
from tests.unit.handlers.conftest import NewContext, Run, sealed_by
from tests.unit.handlers.styles import Make, as_async_function, as_function, styles

Start = Callable[..., Execution]


# Results that cannot be sealed


class Unclear:
    """No version."""


@pytest.fixture
def run_version(pool: Any, new_context: NewContext) -> Callable[..., Any]:
    """Run a body as a handler of some version, which no decorator or class has looked at."""

    async def run(version: Any, body: Callable[[], Any]) -> StepExecutionResult:
        handler = marked_handler(as_function(body))
        assert handler is not None
        versioned = replace(handler, version=version)
        return (await sealed_by(Execution(versioned, new_context(), timeout_seconds=5, executor=pool))).result

    return run


def fails() -> NoReturn:
    raise ConnectionError("the line is down")


@pytest.mark.parametrize("version", [Unclear(), property(lambda _: "1.0.0")])
async def test_a_version_that_is_no_text_does_not_lose_the_result(
    run_version: Callable[..., Any], version: object
) -> None:
    returned = await run_version(version, dict)
    assert returned.error.error_type == "result_serialization_error"
    assert "metadata.handler_version is of type" in returned.error.message
    raised = await run_version(version, fails)
    assert (raised.error.error_type, raised.error.message) == ("retryable_error", "the line is down")
    assert raised.metadata.handler_version is None
    assert "handler_version" in raised.metadata.context["left_out"]


async def test_a_version_that_postgresql_cannot_store_is_written_so_that_it_can(
    run_version: Callable[..., Any],
) -> None:
    raised = await run_version("1\x00", fails)
    assert (raised.error.error_type, raised.metadata.handler_version) == ("retryable_error", "1\\x00")


# Escapes while a result is read


class Exits(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        sys.exit(4)


class Interrupts(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        raise KeyboardInterrupt


class Cancels(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        raise asyncio.CancelledError


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


class UnclassifiableError(Exception):
    @property
    def retryable(self) -> bool:
        sys.exit("no verdict")


def raises(kind: type[Exception]) -> Callable[[], NoReturn]:
    def body() -> NoReturn:
        raise kind

    return body


@styles
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (Exits, "SystemExit escaped"),
        (Interrupts, "KeyboardInterrupt escaped"),
        (Cancels, "CancelledError escaped"),
        (lambda: StepHandlerResult.success({}, {"note": Exits()}), "SystemExit escaped"),
        (lambda: checkpoint_yield(1, 1, Exits()), "SystemExit escaped"),
        (raises(UnclassifiableError), "SystemExit escaped"),
    ],
)
async def test_what_escapes_while_a_result_is_read_is_a_panic(
    run: Run, make: Make, body: Callable[[], Any], told: str
) -> None:
    result = await run(make(body))
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("handler_panic", False)
    assert told in result.error.message


@styles
async def test_an_exception_that_ends_the_process_when_printed_is_a_failure(run: Run, make: Make) -> None:
    result = await run(make(raises(UnspeakableError)))
    assert result.error is not None
    assert (result.error.error_type, result.error.message) == ("handler_error", "UnspeakableError")


@styles
async def test_notes_that_end_the_process_do_not_hide_the_failure(run: Run, make: Make) -> None:
    result = await run(make(lambda: StepHandlerResult.failure("no stock", metadata={"note": Exits()})))
    assert result.error is not None
    assert (result.error.message, result.error.retryable) == ("no stock", True)
    assert result.metadata.context == {"left_out": "4"}


# Iterators


class Rows(BaseModel):
    rows: Iterable[int]


UNREAD: dict[str, tuple[Callable[[Iterator[int]], Any], str]] = {
    "alone": (lambda rows: rows, "a range_iterator is no result; return what it yields, as a list"),
    "wrapped": (lambda rows: StepHandlerResult.success(rows), "a range_iterator is no result"),
    "dict": (lambda rows: {"rows": rows}, "rows is a range_iterator, which may have no end"),
    "deep": (lambda rows: {"pages": [1, {"rows": (2, rows)}]}, "pages[1].rows[1] is a range_iterator"),
    "set": (lambda rows: [{rows}], "[0][0] is a range_iterator"),
    "deque": (lambda rows: {"rows": deque([rows])}, "rows[0] is a range_iterator"),
    "notes": (lambda rows: StepHandlerResult.success({}, {"rows": rows}), "rows is a range_iterator"),
    "cursor": (lambda rows: checkpoint_yield({"at": rows}, 1), "cursor.at is a range_iterator"),
}


@pytest.mark.parametrize("where", UNREAD)
@pytest.mark.parametrize("make", [as_function, as_async_function])
async def test_an_iterator_is_refused_unread_wherever_it_is(start: Start, make: Make, where: str) -> None:
    rows = iter(range(3))
    place, told = UNREAD[where]
    result = (await sealed_by(start(make(lambda: place(rows))))).result
    assert result.error is not None
    assert result.error.error_type in ("result_serialization_error", "checkpoint_error")
    assert told in result.error.message
    assert next(rows) == 0


@styles
async def test_an_iterable_field_of_a_model_is_what_its_author_wants(run: Run, make: Make) -> None:
    assert (await run(make(lambda: {"report": Rows(rows=iter([1, 2]))}))).result == {
        "report": {"rows": [1, 2]}
    }


# Too much


@pytest.mark.parametrize(
    "value",
    [
        [{}] * (MAX_VALUES + 1),
        [[0] * 1000] * (MAX_VALUES // 1000 + 1),
        {"rows": ([1] * MAX_VALUES,)},
    ],
)
async def test_more_values_than_can_be_stored_are_refused_uncounted(run: Run, value: object) -> None:
    result = await run(as_async_function(lambda: value))
    assert result.error is not None
    assert result.error.error_type == "result_serialization_error"
    assert f"holds more than {MAX_VALUES} values; keep the data elsewhere" in result.error.message


async def test_as_many_values_as_can_be_stored_are_no_reason_to_refuse(run: Run) -> None:
    value = [0] * (MAX_VALUES - 1000)  # nearly 1 MiB of JSON
    assert (await run(as_async_function(lambda: value))).result == {"result": value}


# Where results are read


class Recorder(BaseModel):
    """Notes the threads in which it is written."""

    threads: list[str] = Field(default_factory=list, exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        self.threads.append(threading.current_thread().name)
        return 1


@styles
async def test_the_result_of_a_sync_handler_is_read_in_its_thread(run: Run, make: Make) -> None:
    report = Recorder()
    assert (await run(make(lambda: report))).result == {"total": 1}
    on_the_loop = threading.current_thread().name in report.threads
    assert on_the_loop is ("async" in make.__name__)


async def test_the_time_to_read_a_result_counts(start: Start) -> None:
    """The loop goes on meanwhile: it is the one that notices."""
    finish = threading.Event()

    class Slow(BaseModel):
        @computed_field  # type: ignore[prop-decorator]
        @property
        def total(self) -> int:
            finish.wait(5)
            return 1

    execution = start(as_function(Slow), timeout_seconds=0.05)
    result = (await sealed_by(execution)).result
    assert result.error is not None
    assert result.error.error_type == "handler_timeout"
    assert not execution.released.done()
    finish.set()
    await execution.released


async def test_a_kind_of_handler_finishes_in_the_thread_of_its_function(start: Start) -> None:
    threads: list[threading.Thread] = []

    def finish(value: object) -> object:
        threads.append(threading.current_thread())
        return {"finished": value}

    handler = marked_handler(as_function(lambda: 7))
    assert handler is not None
    execution = start(as_function(lambda: 7))
    finishing = Execution(
        replace(handler, finish=finish), execution.context, timeout_seconds=5, executor=execution._executor
    )
    assert (await sealed_by(finishing)).result.result == {"finished": 7}
    assert threads[0] is not threading.current_thread()


# Runs after a checkpoint


@step_handler("pages")
def pages(context: StepContext) -> Any:
    """Moves its cursor and takes from its inputs in place."""
    cursor = context.checkpoint_cursor or {"page": 0}
    cursor["page"] += 1
    context.step_config["seen"].append(1)
    todo = context.input_data["todo"].pop()
    dependency = context.dependency_results["load"]["rows"].pop()
    if cursor["page"] < 3:
        return checkpoint_yield(cursor, 0)
    return {"pages": cursor["page"], "left": [todo, dependency], "seen": context.step_config["seen"]}


async def test_each_run_of_run_handler_is_given_everything_anew() -> None:
    stored: list[Any] = []
    context = make_context(inputs={"todo": [1]}, dependencies={"load": {"rows": [2]}}, config={"seen": []})
    result = await run_handler(pages, context, on_checkpoint=stored.append)
    assert result.result == {"pages": 3, "left": [1, 2], "seen": [1]}
    assert [one["cursor"] for one in stored] == [{"page": 1}, {"page": 2}]
    assert (context.input_data, context.step_config) == ({"todo": [1]}, {"seen": []})


async def test_a_cursor_moved_in_place_has_advanced_from_a_stored_one_too() -> None:
    context = make_context(
        inputs={"todo": [1]},
        dependencies={"load": {"rows": [2]}},
        config={"seen": []},
        checkpoint={"cursor": {"page": 1}, "items_processed": 0},
        attempt=2,
    )
    assert (await run_handler(pages, context)).result["pages"] == 3


async def test_mocks_in_a_context_made_by_hand_stay_themselves(new_context: NewContext) -> None:
    lock = threading.Lock()  # cannot be copied

    @step_handler("given")
    async def given(context: StepContext) -> dict[str, Any]:
        return {"same": context.input_data["locks"][0] is lock}

    assert (await run_handler(given, new_context(input_data={"locks": [lock]}))).result == {"same": True}
