"""Template files that a command names, and what there is to say about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from tasker.ctl.output import Output, shown
from tasker.domain.templates.findings import Finding, Report, Severity
from tasker.domain.templates.loading import Document, load_documents, size_problem

_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}

TemplatePaths = Annotated[
    list[Path],
    typer.Argument(
        exists=True,
        metavar="PATH...",
        help="Files, or folders of .yaml and .yml files.",
        show_default=False,
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Make an unknown key an error.")]


def documents(paths: Iterable[Path]) -> Iterator[Document]:
    """Yield the documents of files and folders.

    Raises:
        BadParameter: There is none.
    """
    count = 0
    for path in (file for given in paths for file in _files(given)):
        for document in _documents(path):
            count += 1
            yield document
    if not count:
        raise typer.BadParameter(f"{', '.join(map(str, paths))} holds no template", param_hint="PATH")


def show_report(document: Document, report: Report, output: Output) -> None:
    """Print what there is to say about a document: as an object for programs, a line for each finding for people."""
    if output.as_json:
        output.write(
            {
                "source": document.source,
                "valid": report.valid,
                "template": report.template.key if report.template else None,
                "step_count": report.step_count,
                "has_cycles": report.has_cycles,
                "findings": report.findings,
            }
        )
        return
    for finding in report.findings:
        output.say(_line(finding))


def _documents(path: Path) -> list[Document]:
    if problem := size_problem(path.stat().st_size):
        return [Document(str(path), problem=f"it {problem}")]
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return [Document(str(path), problem="it is no UTF-8 text")]
    return load_documents(text, str(path))


def _files(path: Path) -> list[Path]:
    """Return the template files of a folder as a worker finds them; a file that is named is one in any case."""
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.rglob("*.y*ml")
        if file.suffix in (".yaml", ".yml")
        and not any(part.startswith(".") for part in file.relative_to(path).parent.parts)
    )


def _line(finding: Finding) -> Text:
    place = f"{finding.source}:{finding.line}" if finding.line else finding.source
    severity = (finding.severity, _STYLES[finding.severity])
    return Text.assemble(shown(place), ": ", severity, f" {finding.code}: ", shown(finding.message))
