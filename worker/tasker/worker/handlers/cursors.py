"""Cutting work into ranges, one for each instance of a batch worker.

Pure functions: an analyzer may use them, or bring ranges of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

from tasker.domain.outcomes import MAX_BATCHES
from tasker.domain.results import ErrorType
from tasker.worker.handlers.errors import PermanentError

#: A place in a sequence, or a step towards its end. It is stored as JSON, and comes back as JSON has it: instants and
#: UUIDs as texts, tuples as lists.
Cursor = int | float | str | date | UUID | Mapping[str, Any] | Sequence[Any]

_KEYS: Final = frozenset({"batch_id", "start_cursor", "end_cursor", "batch_size", "step_size"})


class TooManyBatchesError(PermanentError):
    """A plan has more batches than the engine makes."""

    error_type = ErrorType.BATCH_OUTCOME_INVALID

    def __init__(self, count: int) -> None:
        super().__init__(
            f"the plan has {count} batches, and {MAX_BATCHES} are the most; "
            f"make them larger: raise batch_size, or set max_batches={MAX_BATCHES} or less"
        )


@dataclass(frozen=True, slots=True)
class CursorConfig:
    """What one instance of a batch worker has to do.

    Attributes:
        batch_id: Digits, at least three: the instance is called `<worker template>_<batch_id>`.
        start_cursor: The first of its items.
        end_cursor: Where it ends; this one is no longer its own.
        batch_size: How many items that are, as far as the analyzer knows.
        step_size: The distance between two items, for the worker to use.
        metadata: More that this one instance needs to know.
    """

    batch_id: str
    start_cursor: Cursor
    end_cursor: Cursor
    batch_size: int
    step_size: int = 1
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CursorConfig:
        """Read what `to_json` wrote; what is missing takes its default."""
        return cls(
            str(data.get("batch_id", "")),
            data.get("start_cursor", 0),
            data.get("end_cursor", 0),
            int(data.get("batch_size") or 0),
            int(data.get("step_size") or 1),
            {key: value for key, value in data.items() if key not in _KEYS},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the wire shape; `step_size` only where it says something."""
        more = {} if self.step_size == 1 else {"step_size": self.step_size}
        return dict(self.metadata) | {
            "batch_id": self.batch_id,
            "start_cursor": self.start_cursor,
            "end_cursor": self.end_cursor,
            "batch_size": self.batch_size,
            **more,
        }


def cursor_ranges(
    total_items: int,
    batch_size: int,
    *,
    step_size: int = 1,
    max_batches: int | None = None,
    first_cursor: int = 0,
) -> list[CursorConfig]:
    """Cut `total_items` into ranges of `batch_size`; the last may be shorter.

    Args:
        total_items: How many there are; 0 gives no ranges.
        batch_size: Items of a range.
        step_size: Passed on to the workers.
        max_batches: The most ranges to make; where more would be needed, they are larger instead.
        first_cursor: The cursor of the first item.

    Raises:
        TypeError: Something is no whole number; names it.
        ValueError: A number makes no sense; names it.
        TooManyBatchesError: The engine makes fewer; nothing is cut then.
    """
    check_figures(total_items, first_cursor, batch_size=batch_size, max_batches=max_batches)
    if max_batches is not None and _ratio_up(total_items, batch_size) > max_batches:
        batch_size = _ratio_up(total_items, max_batches)
    check_count(_ratio_up(total_items, batch_size))
    return [
        CursorConfig(
            f"{number:03d}",
            first_cursor + start,
            first_cursor + min(start + batch_size, total_items),
            min(batch_size, total_items - start),
            step_size,
        )
        for number, start in enumerate(range(0, total_items, batch_size), start=1)
    ]


def even_ranges(total_items: int, worker_count: int, *, first_cursor: int = 0) -> list[CursorConfig]:
    """Cut `total_items` into at most `worker_count` ranges of about the same size, none of them empty.

    Raises:
        TypeError, ValueError, TooManyBatchesError: As `cursor_ranges`.
    """
    check_figures(total_items, first_cursor, worker_count=worker_count)
    return cursor_ranges(total_items, max(1, _ratio_up(total_items, worker_count)), first_cursor=first_cursor)


def planned_ranges(
    total_items: int, batch_size: int, *, max_batches: int | None = None, first_cursor: int = 0
) -> list[CursorConfig]:
    """Cut `total_items` into as many ranges as `batch_size` needs, and make them even.

    1001 items in batches of 1000 are 501 and 500, not 1000 and 1.

    Raises:
        TypeError, ValueError, TooManyBatchesError: As `cursor_ranges`.
    """
    check_figures(total_items, first_cursor, batch_size=batch_size, max_batches=max_batches)
    size = planned_size(total_items, batch_size, max_batches)
    return cursor_ranges(total_items, size, first_cursor=first_cursor)


def planned_size(total_items: int, batch_size: int, max_batches: int | None) -> int:
    """Return how many items the ranges of a plan have, without cutting them.

    Raises:
        TooManyBatchesError: The engine makes fewer.
    """
    workers = _ratio_up(total_items, batch_size)
    if max_batches is not None:
        workers = min(workers, max_batches)
    size = max(1, _ratio_up(total_items, max(1, workers)))
    check_count(_ratio_up(total_items, size))
    return size


def check_count(batches: int) -> None:
    """Refuse more batches than the engine makes.

    Raises:
        TooManyBatchesError: There are more.
    """
    if batches > MAX_BATCHES:
        raise TooManyBatchesError(batches)


def check_figures(total_items: int, first_cursor: int, **positive: int | None) -> None:
    """Refuse figures that make no sense; None stands for one that is left open.

    Raises:
        TypeError: Something is no whole number; names it.
        ValueError: A number makes no sense; names it.
    """
    given = {name: value for name, value in positive.items() if value is not None}
    every: dict[str, object] = {"total_items": total_items, "first_cursor": first_cursor, **given}
    for name, value in every.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be a whole number (int), and is of type {type(value).__name__}")
    if total_items < 0:
        raise ValueError(f"total_items must not be negative, and is {total_items}")
    for name, value in given.items():
        if value <= 0:
            raise ValueError(f"{name} must be at least 1, and is {value}")


def _ratio_up(items: int, size: int) -> int:
    return -(-items // size)
