"""Checking a template: every finding at once, from one pure function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from tasker.domain.storable import serialization_problem
from tasker.domain.templates import rules
from tasker.domain.templates.document import Template
from tasker.domain.templates.dynamic_rules import check_dynamic_steps
from tasker.domain.templates.environments import override_problems
from tasker.domain.templates.findings import (
    Code,
    Findings,
    InvalidTemplateError,
    Path,
    Report,
    path_text,
)
from tasker.domain.templates.loading import Document
from tasker.domain.templates.normalisation import normalise

#: How the model's types read in a template.
_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "str",
    "int_type": "int",
    "float_type": "number",
    "bool_type": "bool",
    "list_type": "list",
    "dict_type": "map",
    "model_type": "map",
    "model_attributes_type": "map",
}
_TYPE_NAMES: Final[Mapping[type, str]] = {dict: "map", type(None): "null"}

#: Codes whose table message stands alone; all others say the path first.
_WITHOUT_PATH: Final = frozenset(
    {Code.INVALID_NAME, Code.INVALID_VERSION, Code.NAMESPACE_TOO_LONG, Code.INVALID_EVENT}
)


def parse(document: Document | Mapping[str, Any], *, strict: bool = False) -> Template:
    """Return the template a document describes.

    Raises:
        InvalidTemplateError: The document has errors; the report lists everything found.
    """
    report = validate(document, strict=strict)
    if report.template is None:
        raise InvalidTemplateError(
            report, source=document.source if isinstance(document, Document) else "template"
        )
    return report.template


def validate(document: Document | Mapping[str, Any], *, strict: bool = False) -> Report:
    """Check a template document and report everything about it.

    Args:
        document: A loaded document, or plain JSON.
        strict: Make an unknown key an error.

    Pure: the same document gives the same report, and nothing else happens.
    """
    loaded = document if isinstance(document, Document) else Document("", document)
    findings = Findings(
        source=loaded.source, lines=loaded.lines, step_names=_step_names(loaded.content), strict=strict
    )
    if loaded.problem is not None:
        place = loaded.source if loaded.problem_line is None else f"{loaded.source}:{loaded.problem_line}"
        findings.add(
            Code.INVALID_YAML, (), f"cannot parse {place}: {loaded.problem}", line=loaded.problem_line
        )
        return Report(valid=False, findings=findings.in_order(), step_count=0, has_cycles=False)

    content = normalise(loaded.content, findings)
    if (problem := serialization_problem(content)) is not None:
        findings.add(Code.OUT_OF_RANGE, (), f"document: {problem}")
    template = _typed(content, findings)
    has_cycles = isinstance(content, dict) and _check_rules(content, findings)
    if template is not None:
        for path, problem in override_problems(template):
            findings.add(Code.OUT_OF_RANGE, path, f"{path_text(path)}: {problem}")
        template = template.model_copy(update={"loaded_from": loaded.source or template.loaded_from})
    valid = not findings.has_errors
    return Report(
        valid=valid,
        findings=findings.in_order(),
        step_count=len(findings.step_names),
        has_cycles=has_cycles,
        template=template if valid else None,
    )


def _check_rules(content: dict[str, Any], findings: Findings) -> bool:
    """Apply the rules about the workflow as a whole; return whether it has cycles."""
    if content.get("steps") == []:
        findings.add(Code.NO_STEPS, ("steps",), "steps: a template needs at least one step")
    graph = rules.outline(content, findings)
    positions: dict[str, int] = {}
    for index, name in enumerate(findings.step_names):
        if name is not None:
            positions.setdefault(name, index)
    rules.check_graph(graph, positions, findings)
    rules.check_retry(content, findings)
    rules.check_batch_configs(content, findings)
    rules.check_events(content, findings)
    rules.check_schemas(content, findings)
    rules.check_overrides(content, graph, findings)
    check_dynamic_steps(graph, positions, findings)
    return bool(graph.cycles()) or findings.has(Code.SELF_DEPENDENCY)


def _typed(content: object, findings: Findings) -> Template | None:
    """Return the document as a model, or note why it is none."""
    if content is None and findings.has_errors:
        return None  # Too large to be looked at, which has been said.
    if not isinstance(content, dict):
        findings.add(Code.WRONG_TYPE, (), f"document: expected map, got {_type_name(content)}")
        return None
    try:
        return Template.model_validate(content)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            _note(problem["type"], _place(problem["loc"]), problem["msg"], problem["input"], findings)
        return None


def _step_names(content: object) -> list[str | None]:
    """Return the name of each step, None where there is none."""
    steps = content.get("steps") if isinstance(content, Mapping) else None
    names = [
        step.get("name") if isinstance(step, Mapping) else None
        for step in (steps if isinstance(steps, (list, tuple)) else ())
    ]
    return [name if isinstance(name, str) else None for name in names]


def _note(kind: str, path: Path, message: str, value: object, findings: Findings) -> None:
    """Translate one complaint of the model into a finding."""
    place = path_text(path)
    in_event = "publishes_events" in path or path[:1] == ("domain_events",)
    if kind == "missing":
        findings.add(Code.MISSING_FIELD, path, f"{place}: required")
    elif path == ("version",) and isinstance(value, (int, float)):
        findings.add(
            Code.INVALID_VERSION, path, f"version '{value}' must be x.y.z; it is a number here, quote it"
        )
    elif kind in Code.__members__:
        code = Code(kind)
        findings.add(code, path, message if code in _WITHOUT_PATH else f"{place}: {message}")
    elif in_event and isinstance(value, str) and kind in ("model_type", "model_attributes_type"):
        findings.add(
            Code.INVALID_EVENT, path, f"{place}: '{value}' must be a map with a name, not a bare string"
        )
    elif kind == "enum" and isinstance(value, str):
        options = message.removeprefix("Input should be ").replace("'", "").replace(" or ", ", ")
        code = Code.INVALID_EVENT if in_event else Code.OUT_OF_RANGE
        findings.add(code, path, f"{place}: '{value}' not in {options}")
    else:
        expected = _EXPECTED.get(kind, "str" if kind == "enum" else kind)
        findings.add(Code.WRONG_TYPE, path, f"{place}: expected {expected}, got {_type_name(value)}")


def _place(location: tuple[int | str, ...]) -> Path:
    """Return the path of a complaint; pydantic marks the keys of a map by `[key]`."""
    return tuple(part for part in location if part != "[key]")


def _type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value), type(value).__name__)
