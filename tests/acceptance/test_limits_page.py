"""docs/limits.md tells the truth: every limit of its tables is that of the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| ([\d.,]+(?: [KM]iB)?) \| `([\w.]+)` \|$", PAGE, re.M)
UNITS = {"": 1, "KiB": 1024, "MiB": 1024 * 1024}


def value_of(path: str) -> Any:
    """Return what a dotted path leads to; of a dataclass's field its default."""
    parts = path.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for name in parts[split:]:
            fields = getattr(found, "__dataclass_fields__", {})
            found = fields[name].default if name in fields else getattr(found, name)
        return found
    raise AssertionError(f"{path} leads nowhere")


@pytest.mark.parametrize(("what", "limit", "path"), ROWS, ids=[row[2] + row[0][:20] for row in ROWS])
def test_each_limit_is_that_of_the_code(what: str, limit: str, path: str) -> None:
    number, _, unit = limit.partition(" ")
    assert float(number.replace(",", "")) * UNITS[unit] == value_of(path), what


def test_no_row_is_left_out() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Limit ")]
    assert len(rows) == len(ROWS) > 20
