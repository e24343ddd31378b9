"""What calls about versions of templates return."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVersion:
    """One version of a template, in use or not.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        version: Its version.
        active: Whether tasks can be created of it.
        is_default: Whether it is created when no version is asked for.
        digest: SHA-256 of its canonical document, in hexadecimal digits.
        registered_at: When it was registered first.
        open_tasks: Its tasks that are not over, among the 10,000 newest of all templates.
        deactivated_at: When it was taken out of use; None while it is active, as are the next two.
        deactivated_by: Who did it.
        deactivation_reason: Why.
    """

    namespace: str
    name: str
    version: str
    active: bool
    is_default: bool
    digest: str
    registered_at: datetime
    open_tasks: int
    deactivated_at: datetime | None
    deactivated_by: str | None
    deactivation_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateProblem:
    """One thing about a template document.

    Attributes:
        code: What it is; stable and made for programs.
        severity: `error`, `warning` or `info`. Only errors keep a template from being registered.
        path: Where, such as `steps[2].retry`; empty for the document as a whole.
        problem: What is wrong, for people.
        line: The line of the text, from 1.
        step: The step concerned.
    """

    code: str
    severity: str
    path: str
    problem: str
    line: int | None
    step: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateCheck:
    """What there is to say about a template document.

    Attributes:
        valid: Whether it could be registered.
        problems: Everything found: errors, warnings, infos, each in the order of the document; 500 at most.
        omitted_problems: How many more there are.
    """

    valid: bool
    problems: tuple[TemplateProblem, ...]
    omitted_problems: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredTemplate:
    """A template as it is registered now.

    Attributes:
        version: Its version.
        changed: Whether it had another document before, or none.
        warnings: What was accepted with a remark.
    """

    version: TemplateVersion
    changed: bool
    warnings: tuple[TemplateProblem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenVersion:
    """A version whose use was changed.

    Attributes:
        version: The version as it is now.
        default_version: What is created now when no version is asked for; None if none is active.
    """

    version: TemplateVersion
    default_version: str | None
