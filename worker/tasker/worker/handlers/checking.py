"""Checking handlers against the templates that name them, before a task does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tasker.domain.errors import TaskerError
from tasker.domain.templates.document import Step, Template
from tasker.domain.templates.graph import Graph
from tasker.worker.handlers.errors import HandlerResolutionError
from tasker.worker.handlers.injection import InjectionPlan
from tasker.worker.handlers.markers import Source
from tasker.worker.handlers.registry import HandlerRegistry

#: What leaves it to something else which keys a context may have.
_OPEN_ENDED = frozenset(
    {
        "$ref",
        "allOf",
        "anyOf",
        "oneOf",
        "if",
        "patternProperties",
        "dependentSchemas",
        "unevaluatedProperties",
    }
)


class HandlersUnfitError(TaskerError):
    """Templates name handlers that are missing, or that ask for what their steps cannot have."""

    reason = "HANDLERS_UNFIT"

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__(
            f"handlers and templates do not fit: {'; '.join(problems)}; mend them, or start without "
            "TASKER_STRICT_HANDLERS"
        )


@dataclass(frozen=True, slots=True)
class HandlerCheck:
    """What is wrong between a template and the handlers there are.

    Attributes:
        missing: Why a step has no handler, by its name.
        unfit: What a handler asks for and its step cannot have, by the step's name.
    """

    missing: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unfit)

    @property
    def problems(self) -> list[str]:
        """All of it, a sentence each, every one complete in itself."""
        told = [f"step {name!r}: {why}" for name, why in self.missing.items()]
        return told + [f"step {name!r}: {why}" for name, reasons in self.unfit.items() for why in reasons]


def check_handlers(template: Template, registry: HandlerRegistry) -> HandlerCheck:
    """Return what is wrong between a template and the handlers of a registry.

    A step needs a handler. What a function takes by `Dep` has to come from a step above its own, and what it takes by
    `Inputs` has to be in the template's `input_schema`, if that names its properties and leaves nothing open.
    """
    found = HandlerCheck()
    graph = Graph.of(template)
    for step in template.steps:
        wanted = step.handler
        try:
            handler = registry.resolve(wanted.callable, wanted.method, wanted.resolver)
        except HandlerResolutionError as error:
            found.missing[step.name] = error.brief
        else:
            if handler.plan and (problems := list(_unfit(template, step, graph, handler.plan))):
                found.unfit[step.name] = problems
    return found


def _unfit(template: Template, step: Step, graph: Graph, plan: InjectionPlan) -> Iterator[str]:
    above = graph.ancestors(step.name)
    keys = _input_keys(template)
    for injection in plan.injections:
        if injection.key is None:
            continue
        if injection.source is Source.DEPENDENCY and injection.key not in above:
            known = ", ".join(sorted(above)) or "none"
            yield (
                f"handler {plan.handler_name!r} takes the result of {injection.key!r}, which is no step above it; "
                f"above it: {known}"
            )
        if injection.source is Source.INPUT and keys is not None and injection.key not in keys:
            yield (
                f"handler {plan.handler_name!r} takes {injection.key!r} of the task's context, which input_schema does "
                f"not have; it has {', '.join(sorted(keys)) or 'no properties'}"
            )


def _input_keys(template: Template) -> set[str] | None:
    """Return the keys that a context of the template can have; None if nobody can say."""
    schema = template.input_schema
    if not schema or "properties" not in schema or _OPEN_ENDED & schema.keys():
        return None
    if schema.get("additionalProperties", False) is not False:  # said on purpose
        return None
    return {*schema["properties"], *(template.default_context or {})}
