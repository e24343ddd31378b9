"""The project stands alone: it cites no document that it does not hold, and its links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "benchmarks", "clients", "ctl", "docs", "examples", "migrations", "orchestration", "proto", "shared", "testing",
    "tests", "worker",
)  # fmt: skip
SUFFIXES = {".go", ".js", ".py", ".sql", ".md", ".yaml", ".toml", ".proto", ".txt"}
#: Numbered parts of documents that are elsewhere, and documents by names that only their readers know.
CITATION = re.compile(
    r"\b[Ss]pec \d|\bDESIGN\b|\(section \d|[Ss]ections? \d+(\.\d+)?[,;)]|\bspec's\b|# X\d\b|\([XDKC]\d+\)"
)
#: A standard that anybody finds.
PUBLIC = re.compile(r"RFC \d+")


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text of the project but the generated ones and this test."""
    for path in sorted([*ROOT.glob("*.*"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*"))]):
        generated = "tasker/v1" in path.as_posix() and path.suffix == ".py"
        if path.suffix in SUFFIXES and path.is_file() and not generated and path != Path(__file__):
            yield path, path.read_text(encoding="utf-8")


def test_no_line_cites_a_document_that_is_not_here() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if CITATION.search(line) and not PUBLIC.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("cited", ["see spec 10", "(DESIGN section 2)", "as in section 3.1)", "X1: # X1"])
def test_a_citation_would_be_found(cited: str) -> None:
    assert CITATION.search(cited)


def test_every_page_that_code_points_to_exists() -> None:
    for path, text in texts():
        for page in re.findall(r"\bdocs/([a-z-]+\.md)", text):
            assert (ROOT / "docs" / page).is_file(), (path, page)


def test_every_link_of_a_page_leads_to_a_file_and_a_heading() -> None:
    for path, text in texts():
        if path.suffix != ".md":
            continue
        for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
            file = (path.parent / target).resolve() if target else path
            assert file.exists(), (path, target)
            if heading:
                assert heading in headings(file), (path, target, heading)


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in found}
