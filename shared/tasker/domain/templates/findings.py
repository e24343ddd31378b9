"""What a check of a template has to say: codes, findings, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from tasker.domain.errors import FieldViolation, InvalidArgumentError

if TYPE_CHECKING:
    from tasker.domain.templates.document import Template

#: Where in the document: keys and list indexes from the top.
Path = tuple[str | int, ...]


class Severity(StrEnum):
    """How much it matters, most first: only errors keep a template from being registered."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(StrEnum):
    """What is wrong; the values are contract."""

    INVALID_YAML = "INVALID_YAML"
    MISSING_FIELD = "MISSING_FIELD"
    WRONG_TYPE = "WRONG_TYPE"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    INVALID_NAME = "INVALID_NAME"
    INVALID_VERSION = "INVALID_VERSION"
    NAMESPACE_TOO_LONG = "NAMESPACE_TOO_LONG"
    NO_STEPS = "NO_STEPS"
    DUPLICATE_STEP_NAME = "DUPLICATE_STEP_NAME"
    DUPLICATE_DEPENDENCY = "DUPLICATE_DEPENDENCY"
    EMPTY_CALLABLE = "EMPTY_CALLABLE"
    SELF_DEPENDENCY = "SELF_DEPENDENCY"
    MISSING_DEP_REF = "MISSING_DEP_REF"
    CYCLE_DETECTED = "CYCLE_DETECTED"
    DECISION_WITHOUT_PARENT = "DECISION_WITHOUT_PARENT"
    DECISION_WITHOUT_CHILD = "DECISION_WITHOUT_CHILD"
    BATCH_WORKER_UNRESOLVED = "BATCH_WORKER_UNRESOLVED"
    WORKER_WRONG_TYPE = "WORKER_WRONG_TYPE"
    WORKER_ORPHAN = "WORKER_ORPHAN"
    WORKER_AS_PARENT = "WORKER_AS_PARENT"
    CONVERGENCE_STATIC = "CONVERGENCE_STATIC"
    STEP_NAME_RESERVED = "STEP_NAME_RESERVED"
    INVALID_JSON_SCHEMA = "INVALID_JSON_SCHEMA"
    INVALID_EVENT = "INVALID_EVENT"
    UNKNOWN_OVERRIDE_STEP = "UNKNOWN_OVERRIDE_STEP"
    STRADDLING_JOIN = "STRADDLING_JOIN"
    CONVERGENCE_OMITS_DECISION = "CONVERGENCE_OMITS_DECISION"
    ORPHAN_STEP = "ORPHAN_STEP"
    DUPLICATE_EVENT_NAME = "DUPLICATE_EVENT_NAME"
    SCHEMA_NOT_OBJECT = "SCHEMA_NOT_OBJECT"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    LEGACY_KEY = "LEGACY_KEY"
    NO_RESULT_SCHEMA = "NO_RESULT_SCHEMA"
    # A maximum that `retryable: false` makes void.
    ATTEMPTS_UNUSED = "ATTEMPTS_UNUSED"
    # How to split, said of a step that is not split.
    BATCH_CONFIG_UNUSED = "BATCH_CONFIG_UNUSED"
    # Said by whoever has the handlers to run the steps with.
    HANDLER_MISSING = "HANDLER_MISSING"
    HANDLER_UNFIT = "HANDLER_UNFIT"


_MILDER: Final[Mapping[Code, Severity]] = MappingProxyType(
    {
        Code.DECISION_WITHOUT_CHILD: Severity.WARNING,
        Code.STRADDLING_JOIN: Severity.WARNING,
        Code.CONVERGENCE_OMITS_DECISION: Severity.WARNING,
        Code.ORPHAN_STEP: Severity.WARNING,
        Code.DUPLICATE_EVENT_NAME: Severity.WARNING,
        Code.SCHEMA_NOT_OBJECT: Severity.WARNING,
        Code.UNKNOWN_KEY: Severity.WARNING,
        Code.LEGACY_KEY: Severity.WARNING,
        Code.ATTEMPTS_UNUSED: Severity.WARNING,
        Code.BATCH_CONFIG_UNUSED: Severity.WARNING,
        Code.NO_RESULT_SCHEMA: Severity.INFO,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a template.

    Attributes:
        code: What it is.
        severity: How much it matters.
        message: The sentence for people; complete without the other attributes.
        path: Where, such as `steps[2].retry.max_attempts`; empty for the document.
        step: The name of the step concerned, if it is one and has a name.
        line: The line in the source, starting at 1, if the document was read from text.
        source: The file the document was read from.
    """

    code: Code
    severity: Severity
    message: str
    path: str = ""
    step: str | None = None
    line: int | None = None
    source: str = ""

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.code}: {self.message}" if place else f"{self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything found in one template.

    Attributes:
        valid: Whether there is no error; warnings do not count.
        findings: All of them; by line if the document was read from text.
        step_count: How many steps it declares.
        has_cycles: Whether some step depends on itself, directly or not.
        template: The template, if it is valid.
    """

    valid: bool
    findings: tuple[Finding, ...]
    step_count: int
    has_cycles: bool
    template: Template | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the template from being registered."""
        return self._of(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that deserve a look, although the template can be registered."""
        return self._of(Severity.WARNING)

    def without(self, severity: Severity) -> Report:
        """Return the report without the findings of one severity."""
        return replace(self, findings=tuple(one for one in self.findings if one.severity is not severity))

    def joined(self, more: Findings) -> Report:
        """Return the report with what else was found in a valid template."""
        found = sorted((*self.findings, *more.in_order()), key=lambda finding: finding.line or 0)
        valid = self.valid and not more.has_errors
        return replace(self, findings=tuple(found), valid=valid, template=self.template if valid else None)

    def _of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is severity)


class InvalidTemplateError(InvalidArgumentError):
    """A template has errors; `report` lists all of them."""

    reason: ClassVar[str] = "TEMPLATE_INVALID"

    def __init__(self, report: Report, *, source: str = "template") -> None:
        self.report = report
        self.source = source
        violations = [FieldViolation(error.path, error.message) for error in report.errors]
        listed = "; ".join(error.message for error in report.errors)
        count = "1 error" if len(violations) == 1 else f"{len(violations)} errors"
        super().__init__(violations, message=f"{source} has {count}: {listed}")


class Findings:
    """Collects findings while a document is checked; knows its lines and the names of its steps."""

    def __init__(
        self,
        *,
        source: str = "",
        lines: Mapping[Path, int] | None = None,
        step_names: Sequence[str | None] = (),
        strict: bool = False,
    ) -> None:
        self._source = source
        self._lines = lines or {}
        self.step_names = step_names
        self._strict = strict
        self._found: list[Finding] = []
        self._written_as: dict[Path, Path] = {}

    def add(
        self,
        code: Code,
        path: Path,
        message: str,
        *,
        severity: Severity | None = None,
        line: int | None = None,
    ) -> None:
        """Note one finding; severity is the code's and line the path's unless given."""
        severity = severity or _MILDER.get(code, Severity.ERROR)
        if self._strict and code is Code.UNKNOWN_KEY:
            severity = Severity.ERROR
        line = line or self._line_at(path)
        self._found.append(
            Finding(code, severity, message, path_text(path), self._step_at(path), line, self._source)
        )

    def renamed(self, path: Path, written: Path) -> None:
        """Remember that the document has another name for a place, whose line it is."""
        self._written_as[path] = written

    def has(self, code: Code) -> bool:
        """Tell whether something of this code was found."""
        return any(finding.code is code for finding in self._found)

    @property
    def has_errors(self) -> bool:
        """Whether something was found that keeps the template from being registered."""
        return any(finding.severity is Severity.ERROR for finding in self._found)

    def in_order(self) -> tuple[Finding, ...]:
        """Return the findings by their line, or as they were found if there are no lines."""
        if not self._lines:
            return tuple(self._found)
        return tuple(sorted(self._found, key=lambda finding: finding.line or 0))

    def _step_at(self, path: Path) -> str | None:
        if (
            len(path) >= 2
            and path[0] == "steps"
            and isinstance(path[1], int)
            and path[1] < len(self.step_names)
        ):
            return self.step_names[path[1]]
        return None

    def _line_at(self, path: Path) -> int | None:
        """Return the line of the place, or of what encloses it (a missing key has no line of its own)."""
        written: Path = ()
        for part in path:
            place = path[: len(written) + 1]
            written = self._written_as.get(place, (*written, part))
        enclosing = (written[:end] for end in range(len(written), -1, -1))
        return next((self._lines[place] for place in enclosing if place in self._lines), None)


def path_text(path: Path) -> str:
    """Return a path as people write it: `steps[2].retry.max_attempts`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
