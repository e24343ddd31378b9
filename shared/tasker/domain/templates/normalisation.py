"""One spelling for every template: aliases, old keys, unknown keys."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from tasker.domain.templates import document as doc
from tasker.domain.templates.findings import Code, Findings, Path, path_text

_MAX_DEPTH: Final = 50
_MAX_VALUES: Final = 100_000
#: What files of the original system may have less of, in milliseconds.
_RAISED_TO: Final = {"backoff_base_ms": 100, "max_backoff_ms": 1000}


@dataclass(frozen=True, slots=True)
class Section:
    """How one part of the document is read.

    Attributes:
        part: The model, whose fields are the known keys.
        aliases: Other names of known keys; fine to use.
        renamed: Old names; they work, with a warning.
        dropped: Old keys that mean nothing any more, with a warning.
        values: Other spellings of values, by key.
        one, many, by_name: The parts inside: a single one, a list, a map.
        shorthand: The key a bare string stands for.
    """

    part: type[doc.Part]
    aliases: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    one: Mapping[str, Section] = field(default_factory=dict)
    many: Mapping[str, Section] = field(default_factory=dict)
    by_name: Mapping[str, Section] = field(default_factory=dict)
    shorthand: str | None = None

    def known_keys(self) -> frozenset[str]:
        """Return the keys the model has."""
        return frozenset(info.alias or name for name, info in self.part.model_fields.items())


_OLD_RETRY: Final[dict[str, Any]] = {
    "renamed": {"limit": "max_attempts"},
    "dropped": frozenset({"initial_delay", "max_delay"}),
}
_STEP: Final = Section(
    doc.Step,
    aliases={"step_type": "type", "depends_on": "dependencies"},
    values={"type": {"deferred": "deferred_convergence", "decision_point": "decision"}},
    one={
        "handler": Section(doc.Handler, shorthand="callable"),
        "retry": Section(doc.RetryRules, **_OLD_RETRY),
        "batch_config": Section(doc.BatchConfig, values={"failure_strategy": {"isolate_failed": "isolate"}}),
    },
    many={"publishes_events": Section(doc.PublishedEvent)},
)
_OVERRIDE: Final = Section(
    doc.StepOverride,
    one={
        "handler": Section(doc.HandlerOverride),
        "retry": Section(doc.RetryOverride, **_OLD_RETRY),
    },
)
TEMPLATE: Final = Section(
    doc.Template,
    aliases={"namespace": "namespace_name"},
    one={"lifecycle": Section(doc.Lifecycle), "system_dependencies": Section(doc.SystemDependencies)},
    many={"steps": _STEP, "domain_events": Section(doc.DomainEvent)},
    by_name={"environments": Section(doc.Environment, many={"steps": _OVERRIDE})},
)


def normalise(content: object, findings: Findings) -> object:
    """Return the document with one spelling for everything, noting what had to be changed or left out.

    The result is plain JSON. It is not checked otherwise: what has the wrong type stays as it is, for the
    model to see.
    """
    return _normalised(_json_only(content, findings), TEMPLATE, (), findings)


def _normalised(part: object, section: Section, path: Path, findings: Findings) -> object:
    if isinstance(part, str) and section.shorthand:
        return {section.shorthand: part}
    if not isinstance(part, dict):
        return part
    result: dict[str, object] = {}
    for key, value in _known(part, section, path, findings):
        here = (*path, key)
        result[key] = _inside(key, value, section, here, findings)
    return result


def _known(
    part: dict[str, object], section: Section, path: Path, findings: Findings
) -> Iterator[tuple[str, object]]:
    """Yield the known keys under their present names; null means that a key was not given."""
    known = section.known_keys()
    for key, value in part.items():
        name = section.aliases.get(key, section.renamed.get(key, key))
        place = path_text((*path, key))
        if key in section.dropped:
            findings.add(Code.LEGACY_KEY, (*path, key), f"{place}: has no effect any more; remove it")
        elif name not in known:
            findings.add(Code.UNKNOWN_KEY, (*path, key), f"{place}: {_unknown(key, section)}")
        elif name != key and part.get(name) is not None:
            findings.add(Code.LEGACY_KEY, (*path, key), f"{place}: ignored, since {name} is given too")
        elif value is not None:
            if name != key:
                findings.renamed((*path, name), (*path, key))
            if key in section.renamed:
                findings.add(Code.LEGACY_KEY, (*path, key), f"{place}: old name of {name}; write {name}")
            yield name, value


def _unknown(key: str, section: Section) -> str:
    usable = [*section.known_keys(), *section.aliases]
    meant = get_close_matches(key, usable, n=1, cutoff=0.75)
    return f"unknown key, did you mean {meant[0]}?" if meant else "unknown key; it has no effect"


def _inside(key: str, value: object, section: Section, path: Path, findings: Findings) -> object:
    """Return a value with the parts inside it normalised."""
    if key in section.one:
        return _normalised(value, section.one[key], path, findings)
    if key in section.many and isinstance(value, list):
        inner = section.many[key]
        return [_normalised(item, inner, (*path, index), findings) for index, item in enumerate(value)]
    if key in section.by_name and isinstance(value, dict):
        inner = section.by_name[key]
        return {name: _normalised(item, inner, (*path, name), findings) for name, item in value.items()}
    if isinstance(value, str):
        return section.values.get(key, {}).get(value, value)
    least = _RAISED_TO.get(key)
    if least and isinstance(value, int) and not isinstance(value, bool) and 0 < value < least:
        findings.add(Code.LEGACY_KEY, path, f"{path_text(path)}: {value} is below {least} and raised to it")
        return least
    return value


def _json_only(content: object, findings: Findings) -> object:
    """Copy a value, noting everything that JSON cannot say and anchors that blow the document up."""
    budget = iter(range(_MAX_VALUES))

    def copied(value: object, path: Path) -> object:
        if next(budget, None) is None or len(path) > _MAX_DEPTH:
            raise _TooLargeError(path)
        if isinstance(value, Mapping):
            return {_key(key, path): copied(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [copied(item, (*path, index)) for index, item in enumerate(value)]
        if (
            value is None
            or isinstance(value, (str, int))
            or (isinstance(value, float) and math.isfinite(value))
        ):
            return value
        shown = value if isinstance(value, float) else type(value).__name__
        findings.add(Code.WRONG_TYPE, path, f"{path_text(path)}: expected a JSON value, got {shown}")
        return None

    def _key(key: object, path: Path) -> str:
        if not isinstance(key, str):
            place = path_text(path) or "document"
            message = f"{place}: expected str as key, got {type(key).__name__} ({key}); quote it"
            findings.add(Code.WRONG_TYPE, path, message)
        return str(key)

    try:
        return copied(content, ())
    except _TooLargeError as error:
        limits = f"more than {_MAX_VALUES} values or {_MAX_DEPTH} levels"
        findings.add(
            Code.OUT_OF_RANGE, error.path[:1], f"{path_text(error.path[:1]) or 'document'}: {limits}"
        )
        return None


class _TooLargeError(Exception):
    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(path)
