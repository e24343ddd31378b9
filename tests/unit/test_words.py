"""One word has one meaning: what docs/how-it-works.md replaced comes back neither in names nor in prose."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("shared", "orchestration", "worker", "ctl", "testing", "migrations")

#: Names that the contract publishes, and the one creator there is: who creates tasks.
ALLOWED: Final = {
    "in_progress", "IN_PROGRESS", "in_progress_steps", "UpdateInvestigation", "GetInvestigationQueue", "TaskCreator",
    "creator", "_creator",
}  # fmt: skip

#: What is in no name, written in words with "_" between them; and what to say instead.
NAMES: Final = {
    "creators?": "expanding step",
    "held|hold|holding|holders?": "locked, or a claim",
    "standing|stands?_still": "stuck",
    "turns?": "claim order",
    "waves?": "level",
    "progress": "step counts, or how far",
    "investigat[a-z]*": "DLQ entry",
    "follow|follows|followed|following|followers?": "watch",
    "batcher": "group commit",
    "(row|message|call|request|poll|flush)_batch(es)?|batch(es)?_(rows|messages|calls|requests)": "group",
    "(call|execution|attempt|request|submit)_outcomes?": "result, answer or end",
    "judge_tasks?": "evaluate",
}

#: What no comment, docstring or commentary of SQL says; and what to say instead.
PROSE: Final = {
    r"creators?(?!:)": "expanding step",
    r"hold(s|ing|ers?)? (of )?(a|an|the|its|their|this) (row|lock|claim|lease|step|task)s?": "lock, or have",
    r"(row|lock|claim|lease|step|task)s? (that )?(is|are|was|were) held": "locked, or claimed",
    r"standing|stands? still": "stuck",
    r"(has|have|had|its|their|in|whose) turns?": "claim order",
    r"waves?": "level",
    r"(?<!in )progress": "step counts, or how far",
    r"investigat\w*": "DLQ entry",
    r"follow(s|ed|ing)? (a|an|the|its|their) (task|step|stream)s?": "watch",
    r"batch(es)? of (rows|messages|results|tasks|calls|requests|entries|leases)|batch by batch": "group",
    r"outcomes? of (a |an |the |one |each )*(call|execution|attempt|request|operation)s?": "result, answer or end",
    r"judg(e|es|ed|ing) (a|an|the|its|their) tasks?": "evaluate",
}

_NAMES: Final = [(re.compile(f"_(?:{retired})_"), instead) for retired, instead in NAMES.items()]
_PROSE: Final = [
    (re.compile(rf"\b(?:{retired})\b", re.IGNORECASE), instead) for retired, instead in PROSE.items()
]
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_CODE: Final = re.compile(r"`[^`]*`|\w+\.\w+")
_SQL: Final = re.compile(r"--(?P<prose>.*)|'(?:[^']|'')*'|(?P<name>[a-z]\w*)", re.IGNORECASE)


def retired_names(names: Iterable[str]) -> list[str]:
    """Return each name that has a retired word, and what to say instead."""
    found = []
    for name in dict.fromkeys(names):
        words = "_".join(_WORDS.findall(name)).lower()
        if name not in ALLOWED:
            found += [f"{name}: {instead}" for retired, instead in _NAMES if retired.search(f"_{words}_")]
    return found


def retired_prose(texts: Iterable[str]) -> list[str]:
    """Return each retired phrase of some texts, and what to say instead."""
    found = []
    for text in texts:
        plain = " ".join(_CODE.sub("", text).split())
        found += [
            f"{match.group()}: {instead}" for retired, instead in _PROSE for match in retired.finditer(plain)
        ]
    return found


def bound(tree: ast.Module) -> Iterator[str]:
    """Yield what a module gives a name to; the names of other people's things are theirs."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.alias(asname=str(name)):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.ExceptHandler(name=str(name)):
                yield name


def prose(text: str, tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of a module, those of attributes, too, and its comments, neighbours as one."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(docstring))):
                yield docstring
    lines = {
        token.start[0]: token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    yield from blocks(lines)


def blocks(lines: dict[int, str]) -> Iterator[str]:
    """Yield the texts of lines that are next to each other as one: a phrase may go over the end of a line."""
    block: list[str] = []
    for number, line in lines.items():
        if number - 1 not in lines:
            yield " ".join(block)
            block = []
        block.append(line)
    yield " ".join(block)


def parts(path: Path) -> tuple[list[str], list[str]]:
    """Return the names and the prose of a source."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        tree = ast.parse(text)
        return [path.stem, *bound(tree)], list(prose(text, tree))
    names, comments = [path.stem], {}
    for number, line in enumerate(text.splitlines(), 1):
        for match in _SQL.finditer(line):
            if match["prose"] is not None:
                comments[number] = match["prose"]
            elif match["name"] is not None:
                names.append(match["name"])
    return names, list(blocks(comments))


def sources(folder: str) -> list[Path]:
    """Return every source in a folder that people write."""
    return [
        path
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".sql"} and "tasker/v1" not in path.as_posix()
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_source_says_a_retired_word(folder: str) -> None:
    found = []
    for path in sources(folder):
        names, texts = parts(path)
        found += [
            f"{path.relative_to(ROOT)}: {one}" for one in [*retired_names(names), *retired_prose(texts)]
        ]
    assert found == []


def test_groups_have_no_batch_size() -> None:
    """The templates' `batch_size` counts items; where rows and messages are handled it is a `group_size`."""
    rooms = [
        "shared/tasker/messaging",
        "shared/tasker/persistence",
        "orchestration/tasker/orchestration/loops",
        "migrations",
    ]
    for path in (path for room in rooms for path in sources(room)):
        assert "batch_size" not in parts(path)[0], path


@pytest.mark.parametrize(
    ("name", "retired"),
    [
        ("HeldTasks", True), ("_hold", True), ("_TURNS", True), ("StandingTasks", True), ("TaskProgress", True),
        ("InvestigationStore", True), ("wave_of", True), ("Batcher", True), ("row_batch", True), ("Creator", True),
        ("threshold", False), ("returned", False), ("IN_PROGRESS", False), ("TaskCreator", False),
        ("batch_worker", False),
    ],
)  # fmt: skip
def test_a_retired_word_is_known_in_a_name(name: str, retired: bool) -> None:
    assert bool(retired_names([name])) is retired


@pytest.mark.parametrize(
    ("text", "retired"),
    [
        ("Handle one batch of\n    messages.", True), ("the outcome of the call", True), ("as the creator says", True),
        ("Whoever holds the lease.", True), ("rows that are held", True), ("Follow a task to its end.", True),
        ("how much progress there is", True), ("a task that stands still", True), ("judges the task anew", True),
        ("The value holds a NUL character.", False), ("what follows from that", False), ("`in_progress`", False),
        ("the oldest transaction in progress", False), ("instances of a batch", False),
        ("Turns errors into statuses.", False),
    ],
)  # fmt: skip
def test_a_retired_phrase_is_known_in_prose(text: str, retired: bool) -> None:
    assert bool(retired_prose([text])) is retired
