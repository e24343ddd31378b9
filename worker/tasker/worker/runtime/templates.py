"""The template directory of a worker: read, checked and registered at start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasker.domain.errors import TaskerError
from tasker.domain.templates.document import Template
from tasker.domain.templates.loading import Document, load_documents, size_problem
from tasker.domain.templates.validation import validate
from tasker.persistence.database import Database
from tasker.persistence.operations.register import register_template
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


class TemplateDirectoryError(TaskerError):
    """The template directory does not exist or cannot be read."""

    reason = "TEMPLATE_DIRECTORY_UNREADABLE"


@dataclass(slots=True)
class Registration:
    """What registering a directory did.

    Attributes:
        total_files: Files read.
        failed_registrations: Templates that were not registered as they stand in their files, a file that
            cannot be read or parsed counted as one.
        templates: The templates found, each version once. One that may not be changed while tasks run is
            among them, since an earlier revision of that version is registered.
        errors: What was refused, one line each with file and line.
        warnings: What was accepted with a remark.
    """

    total_files: int = 0
    failed_registrations: int = 0
    templates: list[Template] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    successful_registrations: int = 0

    @property
    def discovered_templates(self) -> list[str]:
        """The templates found, in the order of their files, as `namespace/name/version`."""
        return [f"{one.namespace_name}/{one.name}/{one.version}" for one in self.templates]

    @property
    def discovered_namespaces(self) -> list[str]:
        """The namespaces found, sorted: those a worker serves."""
        return sorted({template.namespace_name for template in self.templates})

    def refuse(self, *errors: str) -> None:
        """Note that one template was not registered, and why."""
        self.failed_registrations += 1
        self.errors.extend(errors)

    def write_log(self) -> None:
        """Say what was refused and remarked, and then how it went in one line."""
        for line in self.errors:
            log.error("template_refused", problem=line)
        for line in self.warnings:
            log.warning("template_remark", remark=line)
        log.info(
            "templates_registered",
            total_files=self.total_files,
            successful_registrations=self.successful_registrations,
            failed_registrations=self.failed_registrations,
            templates=self.discovered_templates,
            namespaces=self.discovered_namespaces,
        )


async def register_directory(
    directory: Path, database: Database, *, strict: bool = False, force_overwrite: bool = False
) -> Registration:
    """Register every template under a directory; a bad file does not stop the others.

    Args:
        directory: Its `.yaml` and `.yml` files are read in the order of their paths.
        database: Where to register them.
        strict: Refuse a template with unknown keys.
        force_overwrite: Change a version even while tasks of it run; they keep what they started with.

    Raises:
        TemplateDirectoryError: There is no such directory.
    """
    report = Registration()
    places: dict[str, str] = {}
    for document in _documents(directory, report):
        template = _valid(document, report, strict=strict)
        if template is None:
            continue
        place = f"{document.source}:{document.lines.get((), 1)}"
        if template.key in places:
            report.refuse(
                f"{place}: template {template.key} is in {places[template.key]} already, which is the one "
                "used; remove one of them, or give it another version"
            )
            continue
        places[template.key] = place
        # Refused or not, the version is registered: serve its namespace.
        report.templates.append(template)
        try:
            await register_template(database, template, force_overwrite=force_overwrite)
        except TaskerError as error:
            report.refuse(f"{document.source}: {error}")
        else:
            report.successful_registrations += 1
    return report


def _valid(document: Document, report: Registration, *, strict: bool) -> Template | None:
    """Return the template of a document, or None if it has errors."""
    found = validate(document, strict=strict)
    report.warnings.extend(map(str, found.warnings))
    if found.template is None:
        report.refuse(*map(str, found.errors))
    return found.template


def _documents(directory: Path, report: Registration) -> Iterator[Document]:
    """Yield every document of every file, noting the files that hold none."""
    for path in template_files(directory):
        report.total_files += 1
        source = str(path.relative_to(directory))
        try:
            if problem := size_problem(path.stat().st_size):
                report.refuse(f"{source}: {problem}; of several templates in it, give each a file of its own")
                continue
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            report.refuse(f"{source}: cannot read it: {error.strerror}")
            continue
        except UnicodeDecodeError:
            report.refuse(f"{source}: cannot read it: it is no UTF-8 text")
            continue
        documents = load_documents(text, source)
        if not documents:
            report.warnings.append(f"{source}: holds no template")
        yield from documents
    if not report.total_files:
        report.warnings.append(f"template directory {directory} holds no .yaml or .yml file")


def template_files(directory: Path) -> list[Path]:
    """Return the template files; what is in hidden folders is not meant: a mounted ConfigMap keeps its copies there."""
    try:
        next(directory.iterdir(), None)
    except FileNotFoundError:
        raise TemplateDirectoryError(
            f"template directory {directory} does not exist; create it, or set TASKER_TEMPLATE_PATH"
        ) from None
    except OSError as error:
        raise TemplateDirectoryError(
            f"cannot read template directory {directory}: {error.strerror}; mend it, or set TASKER_TEMPLATE_PATH"
        ) from error
    return sorted(
        path
        for path in directory.rglob("*")
        if path.suffix in (".yaml", ".yml")
        and not path.is_dir()
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    )
