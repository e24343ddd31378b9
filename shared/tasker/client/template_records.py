"""What calls about templates return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceSummary:
    """A namespace and how many templates it has, versions counted.

    Attributes:
        name: The namespace.
        description: What it is for.
        template_count: Versions of templates in it.
    """

    name: str
    description: str | None
    template_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSummary:
    """One version of a template in a listing.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        version: Its version.
        description: What it is for; of a long text the beginning, which `client.template` has whole.
        step_count: How many steps it declares.
    """

    namespace: str
    name: str
    version: str
    description: str | None
    step_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateListing:
    """The templates that are registered.

    Attributes:
        templates: Those of the namespace that was asked for, or all.
        namespaces: All namespaces, whatever was asked for.
        total_count: Versions of templates in all namespaces.
    """

    templates: tuple[TemplateSummary, ...]
    namespaces: tuple[NamespaceSummary, ...]
    total_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """One step of a template.

    Attributes:
        name: Its name, unique in the template.
        description: What it does.
        step_type: `standard`, `decision`, `deferred_convergence`, `batchable` or `batch_worker`.
        dependencies: Names of the steps it waits for.
        handler: What the worker runs.
        retryable: Whether a failed attempt is followed by another one, unless the failure says otherwise.
        max_attempts: Attempts in all, the first one included.
        timeout_seconds: How long one attempt may take; None means the worker's default.
        result_schema: The JSON Schema that results are held against, if there is one.
    """

    name: str
    description: str | None
    step_type: str
    dependencies: tuple[str, ...]
    handler: str
    retryable: bool
    max_attempts: int
    timeout_seconds: int | None
    result_schema: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One version of a template.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        version: Its version.
        description: What it is for.
        steps: Its steps.
        input_schema: The JSON Schema that contexts must fulfil, if there is one.
        configuration: The template document, if the service sends it.
    """

    namespace: str
    name: str
    version: str
    description: str | None
    steps: tuple[StepDefinition, ...]
    input_schema: Any
    configuration: Mapping[str, Any] | None
