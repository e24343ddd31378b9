"""What a handler gives back, and how every shape of it becomes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pydantic
from pydantic_core import to_jsonable_python

from tasker.domain.results import ErrorType
from tasker.domain.storable import MAX_RESULT_BYTES
from tasker.worker.handlers.errors import RetryAfter

#: More values than this cannot be stored, whatever they are: each takes two bytes of JSON at least.
MAX_VALUES: Final = MAX_RESULT_BYTES // 2

#: The types of most values; nothing is inside them.
_SIMPLE: Final = frozenset({str, int, float, bool, type(None), datetime, date, UUID, Decimal})


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
        ValueError: The value, or something in it, has no JSON form or is an iterator; or there is too much in it.
    """
    if value is None:
        return {}
    if isinstance(value, Outcome):
        value = value.to_json()
    elif isinstance(value, pydantic.BaseModel):
        value = value.model_dump(mode="json")
    elif isinstance(value, Mapping):
        value = dict(value)
    body = to_jsonable(value)
    return body if isinstance(body, dict) else {"result": body}


def to_jsonable(value: object) -> Any:
    """Return `value` built from JSON types only.

    Raises:
        ValueError: It has no JSON form: an unknown type, an iterator, a cycle, text that is not Unicode. Or more
            values are in it than can be stored.
    """
    _inspect(value)
    try:
        # Field names, not aliases, as in `model_dump`: a model is dumped the same way at every depth.
        return to_jsonable_python(value, by_alias=False)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def _inspect(value: object) -> None:
    """Refuse what must not even be read, since nothing can interrupt that: it would never end, or take very long.

    Looks into containers only: what a model or dataclass holds is its author's to say.

    Raises:
        ValueError: There is an iterator in it, or more values than can be stored.
    """
    try:
        _count_down(value, MAX_VALUES)
    except _IteratorFoundError as found:
        raise ValueError(str(found)) from None
    except RecursionError:
        return  # a cycle, or nested too deeply: who reads it next comes to the same place first, and says so


def _count_down(value: object, left: int) -> int:
    """Take the number of values inside a value from `left`, and return the rest.

    Every result passes here, which is why this is written for speed.
    """
    kind = type(value)
    inside: Any = value if kind is dict or kind is list else _inside(value)
    left -= len(inside)
    if left < 0:
        raise ValueError(f"holds more than {MAX_VALUES} values; keep the data elsewhere and refer to it")
    part = None
    try:
        for part in inside.values() if isinstance(inside, dict) else inside:
            if type(part) not in _SIMPLE:
                left = _count_down(part, left)
    except _IteratorFoundError as found:
        places = inside.items() if isinstance(inside, dict) else enumerate(inside)
        found.place.insert(0, next((place for place, one in places if one is part), "?"))
        raise
    return left


class _IteratorFoundError(Exception):
    def __init__(self, iterator: object) -> None:
        super().__init__()
        self.kind = type(iterator).__name__
        self.place: list[object] = []

    def __str__(self) -> str:
        if not self.place:
            return f"a {self.kind} is no result; return what it yields, as a list"
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.place)
        return f"{place.removeprefix('.')} is a {self.kind}, which may have no end; give what it yields, as a list"


def _inside(value: object) -> Collection[object]:
    """Return what is in a container; nothing is in anything else."""
    if isinstance(value, Iterator):
        raise _IteratorFoundError(value)
    return value if isinstance(value, (dict, list, tuple, set, frozenset, deque)) else ()
