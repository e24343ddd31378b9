"""Whether wrong use of what we publish fails type checking, with the project's own configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

_ROOT = Path(__file__).parents[2]


def assert_only_marked_lines_fail(
    right: str, wrong: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check two programs: all of `right` passes; of `wrong` exactly the lines fail that end in `# N`, their number."""
    right_file, wrong_file = folder / "right_use.py", folder / "wrong_use.py"
    right_file.write_text(right)
    wrong_file.write_text(wrong.removeprefix("\n"))
    monkeypatch.chdir(_ROOT)  # where the configuration and its relative paths are
    files = [str(right_file), str(wrong_file)]
    report, problems, _ = api.run([*files, "--no-error-summary", "--hide-error-context"])
    assert problems == ""
    lines = [line for line in report.splitlines() if ": error: " in line]
    assert [line for line in lines if "wrong_use.py" not in line] == []
    found = {int(line.split("wrong_use.py:")[1].split(":")[0]) for line in lines}
    marked = {n for n, line in enumerate(wrong_file.read_text().splitlines(), 1) if f"# {n} " in line}
    assert marked == found, report
