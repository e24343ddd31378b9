"""Cutting work into ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain.outcomes import MAX_BATCHES
from tasker.worker import Batchable, BatchConfig, CursorConfig
from tasker.worker.handlers.cursors import cursor_ranges, even_ranges, planned_ranges

totals = st.integers(0, 5000)
#: A number of items, and a size that makes no more than a thousand batches of them.
cuts = st.integers(1, 700).flatmap(
    lambda size: st.tuples(st.integers(0, min(5000, MAX_BATCHES * size)), st.just(size))
)
limits = st.none() | st.integers(1, 40)
firsts = st.integers(-10, 10)


def assert_tiles(ranges: list[CursorConfig], total: int, first: int) -> None:
    """The ranges cover [first, first + total) without gap, overlap or empty ones, and are numbered in order."""
    place = first
    for number, one in enumerate(ranges, start=1):
        assert one.start_cursor == place
        assert isinstance(one.end_cursor, int)
        assert one.batch_size == one.end_cursor - place > 0
        assert int(one.batch_id) == number
        assert len(one.batch_id) >= 3
        place = one.end_cursor
    assert place == first + total


@given(cuts, limits, firsts)
def test_ranges_tile_the_items(cut: tuple[int, int], limit: int | None, first: int) -> None:

    total, size = cut
    ranges = cursor_ranges(total, size, max_batches=limit, first_cursor=first)
    assert_tiles(ranges, total, first)
    assert limit is None or len(ranges) <= limit
    if limit is None or -(-total // size) <= limit:
        assert all(one.batch_size == size for one in ranges[:-1])


@given(cuts, limits, firsts)
def test_planned_ranges_tile_the_items_evenly(cut: tuple[int, int], limit: int | None, first: int) -> None:

    total, size = cut
    ranges = planned_ranges(total, size, max_batches=limit, first_cursor=first)
    assert_tiles(ranges, total, first)
    wanted = -(-total // size)
    assert len(ranges) <= (wanted if limit is None else min(wanted, limit))
    assert limit is not None or all(one.batch_size <= size for one in ranges)
    assert len({one.batch_size for one in ranges[:-1]}) <= 1


@given(totals, st.integers(1, 60))
def test_even_ranges_are_at_most_so_many(total: int, workers: int) -> None:
    ranges = even_ranges(total, workers)
    assert_tiles(ranges, total, 0)
    assert len(ranges) <= workers


@pytest.mark.parametrize(
    ("total", "size", "limit", "sizes"),
    [
        (0, 200, 5, []),
        (1000, 200, 5, [200] * 5),
        (450, 200, 5, [150] * 3),
        (1001, 1000, 10, [501, 500]),
        (3500, 1000, 10, [875] * 4),
        (25000, 1000, 10, [2500] * 10),
        (5, 1, 4, [2, 2, 1]),  # the fourth would be empty
        (1, 200, 5, [1]),
    ],
)
def test_the_plans_of_the_examples(total: int, size: int, limit: int, sizes: list[int]) -> None:

    assert [one.batch_size for one in planned_ranges(total, size, max_batches=limit)] == sizes


def test_the_thousandth_batch_has_a_longer_id() -> None:
    assert [one.batch_id for one in cursor_ranges(1000, 1)][998:] == ["999", "1000"]


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"total_items": -1, "batch_size": 1}, "total_items must not be negative"),
        ({"total_items": 1, "batch_size": 0}, "batch_size must be at least 1, and is 0"),
        ({"total_items": 0, "batch_size": -5}, "batch_size must be at least 1"),
        ({"total_items": 1, "batch_size": 1, "max_batches": 0}, "max_batches must be at least 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(numbers: dict[str, int], says: str) -> None:

    cuts: list[Callable[..., object]] = [
        cursor_ranges,
        planned_ranges,
        BatchConfig,
        Batchable().create_cursor_ranges,
    ]
    for cut in cuts:
        with pytest.raises(ValueError, match=says):
            cut(**numbers)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"total_items": 10.0, "batch_size": 2}, "total_items must be a whole number .* of type float"),
        ({"total_items": "1234", "batch_size": 2}, "total_items must be a whole number .* of type str"),
        ({"total_items": None, "batch_size": 2}, "total_items must be a whole number .* of type NoneType"),
        ({"total_items": True, "batch_size": 2}, "total_items must be a whole number .* of type bool"),
        ({"total_items": 1, "batch_size": 2.5}, "batch_size must be a whole number .* of type float"),
        ({"total_items": 1, "batch_size": 1, "max_batches": "5"}, "max_batches must be .* of type str"),
    ],
)
def test_what_is_no_whole_number_is_named_without_its_value(numbers: dict[str, Any], says: str) -> None:
    makers: list[Callable[..., object]] = [
        cursor_ranges,
        planned_ranges,
        BatchConfig,
        Batchable().create_cursor_ranges,
    ]
    for make in makers:
        with pytest.raises(TypeError, match=says) as raised:
            make(**numbers)
        assert "1234" not in str(raised.value)


def test_the_other_figures_of_a_plan_are_looked_at_too() -> None:
    wrong: Any = "1234"
    with pytest.raises(TypeError, match=r"first_cursor must be a whole number .* of type str"):
        BatchConfig(1, first_cursor=wrong)
    with pytest.raises(TypeError, match="metadata must be a mapping, and is of type int"):
        BatchConfig(10, 5, cast(Any, 4))
    with pytest.raises(TypeError, match=r"worker_count must be a whole number .* of type str"):
        even_ranges(10, wrong)


def test_a_worker_count_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="worker_count must be at least 1"):
        Batchable().create_cursor_configs(10, 0)


def test_a_cursor_passes_through_json() -> None:
    one = CursorConfig("007", "2026-01-01", "2026-02-01", 31, 2, {"region": "eu"})
    assert one.to_json() == {
        "region": "eu",
        "batch_id": "007",
        "start_cursor": "2026-01-01",
        "end_cursor": "2026-02-01",
        "batch_size": 31,
        "step_size": 2,
    }
    assert CursorConfig.from_json(one.to_json()) == one
    assert "step_size" not in CursorConfig("001", 0, 1, 1).to_json()
