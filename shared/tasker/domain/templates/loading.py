"""Template documents out of YAML or JSON text, with the line of every key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from tasker.domain.templates.findings import Path

#: The longest document, and the longest file of them. Reading YAML takes a while: about two seconds for this.
MAX_DOCUMENT_BYTES: Final = 256 * 1024
#: A document with more places than this gets lines for the first ones only: anchors can multiply them
#: without end.
_MAX_LINES: Final = 100_000
#: Far beyond any workflow, far below the interpreter's limit.
_MAX_DEPTH: Final = 100
_TAG: Final = "tag:yaml.org,2002:"
#: What plain text means, as YAML 1.2 has it: PyYAML knows 1.1 only, where NO is false, 12:30 is 750 and 01234 is 668.
#: By tag, with the characters that such text begins with; dates stay text, since JSON has none.
_PLAIN: Final = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]+")


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, parsed but not checked.

    Attributes:
        source: Where the text came from, for messages.
        content: Plain Python values; None if the text could not be parsed.
        lines: The line of each place that has one, starting at 1.
        problem: Why the text could not be parsed.
        problem_line: Where.
    """

    source: str
    content: object = None
    lines: Mapping[Path, int] = field(default_factory=dict)
    problem: str | None = None
    problem_line: int | None = None


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads plain text as YAML 1.2 does, and refuses to nest without end."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own declaration
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node; called by PyYAML for each, recursively."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "nested too deeply", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Return an integer; one with zeros in front is more likely a code than a number, and would lose them."""
    text: str = node.value
    if _LEADING_ZERO.fullmatch(text):
        problem = f"{text} has a zero in front: write '{text}' in quotes (octal numbers begin with 0o)"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return int(text, 0)


for _name, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_constructor(_TAG + "int", _integer)


def size_problem(size: int) -> str | None:
    """Return what is wrong with a text of so many bytes, if it is too long to be read."""
    return f"takes {size} bytes, maximum {MAX_DOCUMENT_BYTES}" if size > MAX_DOCUMENT_BYTES else None


def load_documents(text: str, source: str) -> list[Document]:
    """Return the documents in a text; empty ones are left out.

    Args:
        text: YAML (or JSON, which is YAML), one document or several separated by `---`; anchors and merges
            work.
        source: The file name, for messages.

    A syntax error ends the list with a document that has a `problem`: those before it are still good, and
    nothing can be said about those behind it.
    """
    documents: list[Document] = []
    try:
        for node in yaml.compose_all(text, Loader=_Loader):
            _refuse_duplicate_keys(node)
            content = _construct(node)
            if content is not None:
                documents.append(Document(source, content, dict(_lines(node))))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or str(error)
        if mark:
            problem = f"{problem} (column {mark.column + 1})"
        line = mark.line + 1 if mark else None
        documents.append(Document(source, problem=problem, problem_line=line))
    except (yaml.YAMLError, ValueError) as error:
        documents.append(Document(source, problem=str(error).splitlines()[0]))
    return documents


def _construct(node: yaml.Node) -> object:
    loader = _Loader("")
    try:
        content: object = loader.construct_document(node)
        return content
    finally:
        loader.dispose()


def _refuse_duplicate_keys(root: yaml.Node) -> None:
    """Refuse what YAML forbids and PyYAML lets pass: the second value would win silently."""
    todo, known = [root], {id(root)}
    while todo:
        node = todo.pop()
        seen: set[tuple[str, str]] = set()
        for key in (key for key, _ in node.value) if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"key '{key.value}' is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        fresh = [child for _, _, child in _children(node) if id(child) not in known]
        known.update(map(id, fresh))
        todo.extend(fresh)


def _lines(root: yaml.Node) -> Iterator[tuple[Path, int]]:
    """Yield the line of every key and list item; what a merge (`<<`) brings in has the line of its anchor."""
    todo: list[tuple[yaml.Node, Path]] = [(root, ())]
    yield (), root.start_mark.line + 1
    count = 0
    while todo and count < _MAX_LINES:
        node, path = todo.pop()
        for name, line, child in _children(node):
            count += 1
            yield (*path, name), line
            if len(path) < 50:
                todo.append((child, (*path, name)))


def _children(node: yaml.Node) -> Iterator[tuple[str | int, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key.value, key.start_mark.line + 1, child
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield index, child.start_mark.line + 1, child
