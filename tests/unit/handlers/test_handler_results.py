"""What handlers return, and the result that is stored for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, RootModel, field_serializer

from tasker.domain.results import ResultStatus
from tasker.worker import (
    StepHandlerResult,
)
from tasker.worker.handlers.execution import Execution
from tests.unit.handlers.conftest import STEP, WORKER, Run, sealed_by
from tests.unit.handlers.styles import Make, as_class, as_function, styles


class Color(Enum):
    RED = "red"


class Line(BaseModel):
    sku: str
    price: Decimal = Field(alias="unitPrice")


class Lines(RootModel[list[int]]):
    pass


@dataclass
class Charge:
    id: UUID
    lines: list[Line]
    color: Color = Color.RED


class Broken(BaseModel):
    x: int = 1

    @field_serializer("x")
    def _fail(self, _: int) -> int:
        raise KeyError("serializer")


LINE = Line(sku="a", unitPrice=Decimal("1.50"))
SHARED: dict[str, Any] = {}
SHARED["itself"] = SHARED


@styles
@pytest.mark.parametrize(
    ("returned", "stored"),
    [
        ({"a": 1}, {"a": 1}),
        ({"result": 5}, {"result": 5}),
        (None, {}),
        (7, {"result": 7}),
        ("text", {"result": "text"}),
        ([1, 2], {"result": [1, 2]}),
        (LINE, {"sku": "a", "price": "1.50"}),
        ({"line": LINE}, {"line": {"sku": "a", "price": "1.50"}}),
        (Lines([1]), {"result": [1]}),
        (
            Charge(STEP, [LINE]),
            {"id": str(STEP), "lines": [{"sku": "a", "price": "1.50"}], "color": "red"},
        ),
        ({"at": datetime(2026, 1, 2, tzinfo=UTC)}, {"at": "2026-01-02T00:00:00Z"}),
        (StepHandlerResult.success({"a": 1}), {"a": 1}),
        (StepHandlerResult.success(LINE), {"sku": "a", "price": "1.50"}),
    ],
)
async def test_every_return_reaches_a_result(run: Run, make: Make, returned: Any, stored: Any) -> None:

    result = await run(make(lambda: returned))
    assert (result.success, result.status, result.error) == (True, ResultStatus.COMPLETED, None)
    assert result.result == stored
    assert result.metadata.retryable is False


@styles
@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (object(), "object"),
        ({"deep": {"er": lambda: 1}}, "function"),
        (SHARED, "ircular"),
        ({"x": float("nan")}, "x"),
        ({"x": "nul\x00"}, "NUL"),
        ({"x": "\ud800"}, "x"),
        (Broken(), "serializer"),
        ({"x": "a" * (1024 * 1024)}, "bytes"),
        (StepHandlerResult.success({}, {"note": object()}), "object"),
        (StepHandlerResult.success({}, {"note": "\x00"}), "metadata"),
    ],
)
async def test_what_cannot_be_stored_is_an_error_of_its_own(
    run: Run, make: Make, returned: Any, told: str
) -> None:
    result = await run(make(lambda: returned))
    assert result.error is not None
    assert (result.status, result.error.error_type) == (ResultStatus.ERROR, "result_serialization_error")
    assert result.error.retryable is result.metadata.retryable is False
    assert told in result.error.message
    assert len(result.error.message) <= 500
    assert result.metadata.custom == {"original_success": True}


async def test_notes_of_the_author_and_the_version_are_in_the_stored_result(run: Run) -> None:
    done = await run(as_function(lambda: StepHandlerResult.success({}, {"rows": 3})))
    assert done.metadata.custom == {"rows": 3}
    failed = await run(
        as_class(lambda: StepHandlerResult.failure("no", metadata={"rows": 3}, error_code="E1"))
    )
    assert failed.metadata.context == {"rows": 3}
    assert failed.metadata.error_code == "E1"
    for result in (done, failed):
        assert result.metadata.handler_version == "2.1.0"
        assert (result.metadata.worker_id, result.metadata.worker_hostname) == (WORKER.worker_id, "box")
        assert result.metadata.started_at is not None
        assert result.metadata.completed_at is not None
        assert result.metadata.started_at.tzinfo is not None
        assert result.metadata.started_at <= result.metadata.completed_at
        assert result.step_uuid == str(STEP)


async def test_the_stored_form_of_a_success(start: Callable[..., Execution]) -> None:
    sealed = await sealed_by(start(as_function(lambda: {"a": 1})))
    stored_form = json.loads(sealed.payload)
    assert stored_form == json.loads(json.dumps(sealed.result.to_json()))
    assert isinstance(stored_form["metadata"].pop("execution_time_ms"), int)
    for instant in ("started_at", "completed_at"):
        assert datetime.fromisoformat(stored_form["metadata"].pop(instant)).utcoffset() == timedelta(0)
    assert stored_form == {
        "step_uuid": str(STEP),
        "success": True,
        "result": {"a": 1},
        "status": "completed",
        "error": None,
        "metadata": {
            "handler_version": "2.1.0",
            "retryable": False,
            "worker_id": WORKER.worker_id,
            "worker_hostname": "box",
            "custom": {},
            "error_code": None,
            "error_type": None,
            "context": {},
        },
        "orchestration_metadata": None,
    }


def test_a_handler_result_names_its_success_in_plain_data() -> None:
    assert StepHandlerResult.failure("no").to_dict() == {
        "success": False,
        "result": None,
        "error_message": "no",
        "error_type": "handler_error",
        "error_code": None,
        "retryable": True,
        "metadata": {},
    }
