"""What handlers raise, and the result that is stored for it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tasker.domain.results import ResultStatus, StepExecutionResult
from tasker.domain.retry import server_hint
from tasker.worker import (
    BusinessLogicError,
    ErrorClassifier,
    ErrorType,
    HandlerNotFoundError,
    PermanentError,
    RateLimitError,
    RetryableError,
    StepExecutionError,
    StepHandlerResult,
    StepTimeoutError,
    StepValidationError,
    TaskerError,
)
from tasker.worker.handlers.attempts import given_by_worker, not_resolved
from tasker.worker.handlers.sealing import MAX_BACKTRACE_ENTRIES, MAX_MESSAGE_CHARACTERS
from tests.unit.handlers.conftest import STEP, WORKER, Run
from tests.unit.handlers.styles import Make, as_function, styles


class Line(BaseModel):
    sku: str


def raising(error: BaseException) -> Callable[[], Any]:
    def body() -> Any:
        raise error

    return body


class OwnWordError(Exception):
    retryable = False


class CardDeclinedError(PermanentError):
    error_type = "card_declined"


@styles
@pytest.mark.parametrize(
    ("error", "retryable", "error_type"),
    [
        (PermanentError("x"), False, "permanent_error"),
        (BusinessLogicError("x"), False, "permanent_error"),
        (StepValidationError("x"), False, "validation_error"),
        (CardDeclinedError("x"), False, "card_declined"),
        (PermanentError("x", retryable=True), True, "retryable_error"),
        (RetryableError("x"), True, "retryable_error"),
        (RetryableError("x", retryable=False), False, "permanent_error"),
        (StepTimeoutError("x"), True, "timeout"),
        (StepExecutionError("x", "db_gone", retryable=False), False, "db_gone"),
        (StepExecutionError("x", "db_slow"), True, "db_slow"),
        (OwnWordError("x"), False, "permanent_error"),
        (ValueError("x"), False, "permanent_error"),
        (KeyError("x"), False, "permanent_error"),
        (AssertionError("x"), False, "permanent_error"),
        (NotImplementedError("x"), False, "permanent_error"),
        (ModuleNotFoundError("x"), False, "permanent_error"),
        (FileNotFoundError("x"), False, "permanent_error"),
        (PermissionError("x"), False, "permanent_error"),
        (ConnectionError("x"), True, "retryable_error"),
        (ConnectionResetError("x"), True, "retryable_error"),
        (TimeoutError("x"), True, "retryable_error"),
        (OSError("x"), True, "retryable_error"),
        (RuntimeError("x"), True, "handler_error"),
        (ExceptionGroup("x", [ConnectionError("a"), ValueError("b")]), False, "permanent_error"),
        (ExceptionGroup("x", [ConnectionError("a"), OSError("b")]), True, "retryable_error"),
    ],
)
async def test_errors_mean_the_same_in_every_style(
    run: Run, make: Make, error: Exception, retryable: bool, error_type: str
) -> None:
    result = await run(make(raising(error)))
    assert result.error is not None
    assert (result.status, result.success, result.result) == (ResultStatus.FAILED, False, {})
    assert (result.error.retryable, result.metadata.retryable) == (retryable, retryable)
    assert (result.error.error_type, result.metadata.error_type) == (error_type, error_type)
    assert "x" in result.error.message
    assert result.metadata.context["exception_class"] == type(error).__name__
    assert "raise error" in result.metadata.context["traceback"]
    assert any("raise error" in line for line in result.error.backtrace)


async def test_a_model_that_fails_inside_the_handler_is_permanent() -> None:
    with pytest.raises(ValidationError) as caught:
        Line.model_validate({})
    assert ErrorClassifier.is_permanent(caught.value)
    assert not ErrorClassifier.is_retryable(caught.value)


@styles
async def test_facts_of_a_handler_error_are_stored(run: Run, make: Make) -> None:
    error = PermanentError("no token", error_code="NO_TOKEN", metadata={"card": 4}, context={"try": "again"})
    result = await run(make(raising(error)))
    assert result.error is not None
    assert result.error.message == "no token"
    assert result.metadata.error_code == "NO_TOKEN"
    assert result.metadata.context["card"] == 4
    assert result.error.context == {"try": "again"}
    assert error.to_dict() == {
        "error_class": "PermanentError",
        "message": "no token",
        "error_type": "permanent_error",
        "error_code": "NO_TOKEN",
        "retryable": False,
        "retry_after": None,
        "metadata": {"card": 4},
        "context": {"try": "again"},
    }
    assert isinstance(error, TaskerError)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        (7, 7),
        (0.5, 0.5),
        (timedelta(minutes=2), 120),
        ("7", 7),
        ("soon", None),
        (-1, None),
        (float("inf"), None),
    ],
)
@pytest.mark.parametrize("how", ["raised", "returned"])
async def test_retry_after_sets_the_delay(
    run: Run, how: str, retry_after: Any, seconds: float | None
) -> None:

    body = (
        raising(RateLimitError("slow down", retry_after=retry_after))
        if how == "raised"
        else lambda: StepHandlerResult.failure("slow down", retry_after=retry_after)
    )
    result = await run(as_function(body))
    hint = server_hint(stored(result).orchestration_metadata, now=datetime.now(UTC))
    assert hint == (None if seconds is None else timedelta(seconds=seconds))


async def test_retry_after_may_be_an_http_date(run: Run) -> None:
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    error = RetryableError("later", retry_after=format_datetime(now + timedelta(seconds=90), usegmt=True))
    result = await run(as_function(raising(error)))
    assert server_hint(stored(result).orchestration_metadata, now=now) == timedelta(seconds=90)


def stored(result: StepExecutionResult) -> StepExecutionResult:
    read = StepExecutionResult.from_json(json.loads(json.dumps(result.to_json())))
    assert read is not None
    return read


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def deep(levels: int) -> None:
    if levels:
        deep(levels - 1)
    raise ValueError("nul \x00 and surrogate \ud800 " + "x" * 10_000)


@styles
async def test_no_failure_is_too_ugly_to_store(run: Run, make: Make) -> None:
    result = await run(make(lambda: deep(200)))
    assert result.error is not None
    assert len(result.error.message) <= MAX_MESSAGE_CHARACTERS
    assert result.error.message.startswith("nul \\x00 and surrogate \\ud800")
    assert 0 < len(result.error.backtrace) <= MAX_BACKTRACE_ENTRIES

    speechless = await run(make(raising(UnspeakableError())))
    assert speechless.error is not None
    assert (speechless.error.message, speechless.error.error_type) == ("UnspeakableError", "handler_error")

    for notes in ({"x": object()}, {"x": "\x00"}, {"x": "a" * (1024 * 1024 - 30)}):
        noted = await run(make(raising(RetryableError("still this", metadata=notes))))
        assert noted.error is not None
        assert (noted.error.message, noted.error.error_type) == ("still this", "retryable_error")
        assert "left_out" in noted.metadata.context


class ForgetfulError(RetryableError):
    def __init__(self, order: int) -> None:
        self.order = order


class HostileError(Exception):
    @property
    def retryable(self) -> bool:
        raise RuntimeError("even this")


@styles
async def test_exceptions_that_are_written_badly_still_yield_a_result(run: Run, make: Make) -> None:
    forgetful = await run(make(raising(ForgetfulError(7))))
    assert forgetful.error is not None
    assert (forgetful.error.message, forgetful.error.error_type) == ("7", "retryable_error")
    hostile = await run(make(raising(HostileError("x"))))
    assert hostile.metadata.error_type == "handler_panic"
    timed = await run(make(raising(RetryableError("x", retry_after=[]))))  # type: ignore[arg-type]
    assert timed.metadata.error_type == "retryable_error"


@styles
async def test_what_is_no_exception_is_a_panic(run: Run, make: Make) -> None:
    class Odd(BaseException):
        pass

    for error in (SystemExit(3), KeyboardInterrupt(), Odd("odd")):
        result = await run(make(raising(error)))
        assert result.error is not None
        assert (result.status, result.error.error_type) == (ResultStatus.ERROR, "handler_panic")
        assert result.error.retryable is result.metadata.retryable is False
        assert type(error).__name__ in result.error.message


def test_results_without_an_execution() -> None:
    sealed = not_resolved(STEP, "the_step", HandlerNotFoundError("shop.price", ["shop.ship"]), worker=WORKER)
    stored_form = json.loads(sealed.payload)
    assert stored_form["status"] == "error"
    assert stored_form["error"]["error_type"] == stored_form["metadata"]["error_type"] == "handler_not_found"
    assert stored_form["error"]["retryable"] is stored_form["metadata"]["retryable"] is False
    assert "'the_step'" in stored_form["error"]["message"]
    assert "shop.ship" in stored_form["error"]["message"]

    closing = given_by_worker(STEP, ErrorType.WORKER_SHUTDOWN, "the worker stops", retryable=True)
    assert json.loads(closing.payload)["metadata"]["retryable"] is True


def test_errors_survive_pickling() -> None:  # a process pool or a test runner may carry them
    error = pickle.loads(pickle.dumps(StepExecutionError("x", "db_gone", retryable=False, error_code="E")))
    assert (str(error), error.error_type, error.retryable, error.error_code) == ("x", "db_gone", False, "E")
