"""The templates that a worker serves, and what it runs their steps with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasker.domain.errors import NotFoundError, TemplateNotFoundError
from tasker.domain.templates.document import Template, digest
from tasker.persistence.reading.revisions import KeptRevision, Revisions, RevisionStatistics
from tasker.worker.handlers.errors import HandlerResolutionError
from tasker.worker.handlers.handler import Handler
from tasker.worker.handlers.registry import HandlerRegistry
from tasker.worker.runtime.revisions import KnownStep


class StepHandlerNotFoundError(NotFoundError):
    """A worker has a template and lacks the handler of one of its steps."""

    reason = "HANDLER_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class ServedTemplate:
    """A template of the worker's directory.

    Attributes:
        handlers: What runs each step, by the step's name.
        kept: How its revision was used, if a step of it has run here since it was last dropped.
    """

    template: Template
    handlers: Mapping[str, Handler]
    kept: KeptRevision | None


class ServedTemplates:
    """Answers what a worker can run."""

    def __init__(
        self,
        templates: Sequence[Template],
        registry: HandlerRegistry,
        revisions: Revisions[Mapping[str, KnownStep]],
    ) -> None:
        self._templates = templates
        self._registry = registry
        self._revisions = revisions

    def in_namespace(self, namespace: str | None) -> list[Template]:
        """Return the templates of a namespace, or all."""
        return [one for one in self._templates if namespace in (None, one.namespace_name)]

    def get(self, namespace: str, name: str, version: str) -> ServedTemplate:
        """Return a template with its handlers; an empty version means the highest one.

        Raises:
            TemplateNotFoundError: The worker's directory has none such, with the versions that it has.
            StepHandlerNotFoundError: A step names a handler that the worker lacks.
        """
        versions = {
            one.version: one for one in self._templates if (one.namespace_name, one.name) == (namespace, name)
        }
        known = sorted(versions, key=_precedence, reverse=True)
        template = versions.get(version or next(iter(known), ""))
        if template is None:
            raise TemplateNotFoundError(namespace, name, version, known)
        return ServedTemplate(template, self._handlers(template), self._revisions.kept(digest(template)))

    def statistics(self) -> RevisionStatistics:
        """Return how the revisions that steps ran with are kept."""
        return self._revisions.statistics()

    def _handlers(self, template: Template) -> Mapping[str, Handler]:
        handlers = {}
        for step in template.steps:
            wanted = step.handler
            try:
                handlers[step.name] = self._registry.resolve(wanted.callable, wanted.method, wanted.resolver)
            except HandlerResolutionError as error:
                raise StepHandlerNotFoundError(f"step '{step.name}' of {template.key}: {error}") from error
        return handlers


def _precedence(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
