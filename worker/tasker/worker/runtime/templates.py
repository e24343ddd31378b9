"""The template directory of a worker: read, checked and registered at start (spec 40 section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasker.domain.errors import TaskerError
from tasker.domain.templates.document import Template
from tasker.domain.templates.loading import Document, load_documents
from tasker.domain.templates.validation import validate
from tasker.persistence.templates import TemplateStore


class TemplateDirectoryError(TaskerError):
    """The template directory does not exist or cannot be read."""

    reason = "TEMPLATE_DIRECTORY_UNREADABLE"


@dataclass(slots=True)
class Registration:
    """What registering a directory did.

    Attributes:
        total_files: Files read.
        templates: The valid templates, registered now or before.
        errors: What was refused, one line each with file and line.
        warnings: What was accepted with a remark.
    """

    total_files: int = 0
    templates: list[Template] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def namespaces(self) -> list[str]:
        """The namespaces found, sorted."""
        return sorted({template.namespace_name for template in self.templates})


async def register_directory(directory: Path, store: TemplateStore) -> Registration:
    """Register every template under a directory; a bad file does not stop the others.

    Raises:
        TemplateDirectoryError: There is no such directory.
    """
    report = Registration()
    for document in _documents(directory, report):
        found = validate(document)
        for finding in found.findings:
            place = f"{document.source}:{finding.line}" if finding.line else document.source
            line = f"{place}: {finding.code.value}: {finding.message}"
            if finding in found.errors:
                report.errors.append(line)
            elif finding.severity.value == "warning":
                report.warnings.append(line)
        if found.template is None:
            continue
        try:
            await store.register(found.template)
        except TaskerError as error:
            report.errors.append(f"{document.source}: {error}")
        # Refused or not, the version is registered: serve its namespace.
        report.templates.append(found.template)
    return report


def _documents(directory: Path, report: Registration) -> Iterator[Document]:
    if not directory.is_dir():
        raise TemplateDirectoryError(
            f"template directory {directory} does not exist; create it, or set TASKER_TEMPLATE_PATH"
        )
    for path in sorted(path for path in directory.rglob("*") if path.suffix in (".yaml", ".yml")):
        report.total_files += 1
        source = str(path.relative_to(directory))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            report.errors.append(f"{source}: cannot read it: {error}")
            continue
        yield from load_documents(text, source)
