"""tasker.v1.TemplateService."""

from __future__ import annotations

from tasker.domain.templates.document import Template
from tasker.orchestration.services import parse, render
from tasker.orchestration.services.paging import PageTokens
from tasker.persistence.reading.templates import LastTemplate, TemplateReader, TemplateSummary
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import templates_pb2, templates_pb2_grpc


class TemplateService(templates_pb2_grpc.TemplateServiceServicer):
    """Shows what is registered."""

    def __init__(self, reader: TemplateReader, tokens: PageTokens) -> None:
        self._reader = reader
        self._tokens = tokens

    async def ListTemplates(
        self, request: templates_pb2.ListTemplatesRequest, context: ServicerContext
    ) -> templates_pb2.ListTemplatesResponse:
        """Return the templates, of one namespace if asked: a page of them, or all without pagination.

        Namespaces and their total are those of all.
        """
        namespace = parse.namespace(request)
        listing = self._tokens.listing(b"templates", (namespace or "").encode())
        page = listing.page(request.pagination)
        paged = request.HasField("pagination")
        found = await self._reader.listing(
            namespace,
            after=LastTemplate(*page.after) if page.after else None,
            skip=page.skip,
            limit=page.limit + 1 if paged else None,
        )
        templates = found.templates[: page.limit] if paged else found.templates
        pagination = listing.reply(
            page, found.count(namespace), templates, more=len(found.templates) > len(templates), key=_place
        )
        return templates_pb2.ListTemplatesResponse(
            namespaces=[render.namespace_summary(summary) for summary in found.namespaces],
            templates=[render.template_summary(summary) for summary in templates],
            total_count=found.count(),
            pagination=pagination if paged else None,
        )

    async def GetTemplate(
        self, request: templates_pb2.GetTemplateRequest, context: ServicerContext
    ) -> templates_pb2.GetTemplateResponse:
        """Return a template version; an empty version means the highest one."""
        stored = await self._reader.get(*parse.template_key(request))
        return templates_pb2.GetTemplateResponse(
            template=render.template(Template.model_validate(stored.document))
        )


def _place(template: TemplateSummary) -> list[str]:
    return [template.namespace, template.name, template.version]
