"""What a handler gives back, and how every shape of it becomes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pydantic

from tasker.domain.results import ErrorType
from tasker.worker.handlers.errors import RetryAfter
from tasker.worker.handlers.jsonable import to_jsonable


@dataclass(frozen=True, slots=True)
class StepHandlerResult:
    """A handler's own word on how the step went.

    Build one with `StepHandlerResult.success(...)` or `.failure(...)`, or return plain data for a success and
    raise for a failure.

    Attributes:
        is_success: Whether the step is done.
        result: What dependent steps read; an object, or any value that then becomes `{"result": value}`.
        error_message: What went wrong.
        error_type: Kind of failure.
        error_code: The author's own code.
        retryable: Whether another attempt may succeed.
        metadata: The author's notes, stored as `metadata.custom` of a success and `metadata.context` of a
            failure.
        retry_after: When to try again at the earliest.
    """

    is_success: bool
    result: Any = None
    error_message: str | None = None
    error_type: str | None = None
    error_code: str | None = None
    retryable: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)
    retry_after: RetryAfter | None = None

    @classmethod
    def success(cls, result: Any = None, metadata: Mapping[str, Any] | None = None) -> StepHandlerResult:
        """Return a success."""
        return cls(True, result=result, metadata=metadata or {})

    @classmethod
    def failure(
        cls,
        message: str,
        error_type: str = ErrorType.HANDLER_ERROR,
        retryable: bool = True,
        metadata: Mapping[str, Any] | None = None,
        error_code: str | None = None,
        *,
        retry_after: RetryAfter | None = None,
    ) -> StepHandlerResult:
        """Return a failure; the step runs again if it is retryable and attempts remain."""
        return cls(
            False,
            error_message=message,
            error_type=error_type,
            error_code=error_code,
            retryable=retryable,
            metadata=metadata or {},
            retry_after=retry_after,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data; `is_success` is called `success` there."""
        return {
            "success": self.is_success,
            "result": self.result,
            "error_message": self.error_message,
            "error_type": self.error_type,
            "error_code": self.error_code,
            "retryable": self.retryable,
            "metadata": dict(self.metadata),
        }


class Outcome(ABC):
    """What the handlers of decisions and batches return: it has a wire shape of its own."""

    __slots__ = ()

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return what the step's result is."""


def normalise_return(value: object) -> StepHandlerResult:
    """Return what a handler returned as a `StepHandlerResult`; functions and classes take the same way.

    A `StepHandlerResult` stays as it is, everything else is a success.
    """
    return value if isinstance(value, StepHandlerResult) else StepHandlerResult.success(value)


def result_body(value: object) -> dict[str, Any]:
    """Return a success's value as the JSON object that is stored.

    An object stays one, an `Outcome` takes its wire shape, a pydantic model is dumped in JSON mode, a dataclass
    becomes its fields, None becomes `{}` and anything else `{"result": value}`. Dates, UUIDs, decimals, enums and
    models inside it become JSON too.

    Raises:
        ValueError: As `to_jsonable` does.
    """
    if value is None:
        return {}
    if isinstance(value, Outcome):
        value = value.to_json()
    elif (
        isinstance(value, pydantic.BaseModel) and type(value).model_dump is not pydantic.BaseModel.model_dump
    ):
        value = value.model_dump(mode="json")  # its author's own
    body = to_jsonable(value)
    return body if isinstance(body, dict) else {"result": body}
