"""Cursors of watches: their text, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasker.persistence.reading.cursors import Cursor, Snapshot, scope

NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, UTC)
SCOPE = scope("task", b"\x01")


@pytest.mark.parametrize("told_at", [None, NOON, datetime(1970, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("snapshot", [Snapshot(5, 5), Snapshot(3, 9, (3, 7, 8))])
def test_a_cursor_is_read_as_it_was_written(snapshot: Snapshot, told_at: datetime | None) -> None:
    cursor = Cursor(SCOPE, snapshot, told_at)
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "1:2", "5:6:", f"{SCOPE}", f"{SCOPE}.1.", f"{SCOPE}.1.1:2", f"{SCOPE}.1.1:2:3;", f"{SCOPE}.-1.5:6:",
        f"{SCOPE}.1." + "9" * 20 + ":1:", f"{SCOPE}.1.5:1:", f"{SCOPE}.1.1:3:9", f"{SCOPE}.1.1:9:3,2",
        f"{SCOPE}.1.1:9:3,", f"{SCOPE}.1.0:1:", f"{SCOPE}.1.²:3:", f"{SCOPE.upper()}.1.x:6:", f"{SCOPE}.1.5:6:\n",
        f"{SCOPE}.{'9' * 18}.5:6:",
    ],
)  # fmt: skip
def test_anything_else_is_none(text: str) -> None:
    assert Cursor.parse(text) is None


def test_scopes_differ_by_every_fact_and_by_where_it_ends() -> None:
    scopes = [scope("a", "b"), scope("ab", ""), scope("", "ab"), scope("a"), scope("a", "c"), scope()]
    assert len(set(scopes)) == len(scopes)


@pytest.mark.parametrize(
    ("xid", "expected"),
    [
        (20, Snapshot(3, 10, (3, 7))),  # nothing is behind it
        (9, Snapshot(3, 10, (3, 7))),
        (7, Snapshot(3, 8, (3, 7))),
        (5, Snapshot(3, 6, (3,))),
        (1, Snapshot(2, 2)),
    ],
)
def test_a_picture_can_be_cut_behind_a_transaction(xid: int, expected: Snapshot) -> None:
    assert Snapshot(3, 10, (3, 7)).until(xid) == expected
