"""What a page of a listing brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Row = TypeVar("Row")

#: Totals are counted up to here; one more stands for any number beyond.
EXACT_TOTAL: Final = 10_000

#: What the values of a page take together, as JSON text, before it ends early. As protobuf Structs they may take
#: four times as much, and clients take 4 MiB unless told otherwise.
PAGE_VALUE_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class FoundPage(Generic[Row]):
    """Some rows in order, and how many there are, as of the same moment.

    Attributes:
        total: How many match, exact up to `EXACT_TOTAL`.
        rows: Those of the page.
        more: Whether others follow behind it.
    """

    total: int
    rows: list[Row]
    more: bool
