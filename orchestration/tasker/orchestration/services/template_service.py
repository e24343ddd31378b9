"""tasker.v1.TemplateService."""

from __future__ import annotations

from tasker.domain.templates.document import Template
from tasker.orchestration.services import parse, render
from tasker.persistence.reading.templates import TemplateReader
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import templates_pb2, templates_pb2_grpc


class TemplateService(templates_pb2_grpc.TemplateServiceServicer):
    """Shows what is registered."""

    def __init__(self, reader: TemplateReader) -> None:
        self._reader = reader

    async def ListTemplates(
        self, request: templates_pb2.ListTemplatesRequest, context: ServicerContext
    ) -> templates_pb2.ListTemplatesResponse:
        """Return the templates, of one namespace if asked; namespaces and the total are those of all."""
        listing = await self._reader.listing(parse.namespace(request))
        return templates_pb2.ListTemplatesResponse(
            namespaces=[render.namespace_summary(summary) for summary in listing.namespaces],
            templates=[render.template_summary(summary) for summary in listing.templates],
            total_count=sum(summary.template_count for summary in listing.namespaces),
        )

    async def GetTemplate(
        self, request: templates_pb2.GetTemplateRequest, context: ServicerContext
    ) -> templates_pb2.GetTemplateResponse:
        """Return a template version; an empty version means the highest one."""
        stored = await self._reader.get(*parse.template_key(request))
        return templates_pb2.GetTemplateResponse(
            template=render.template(Template.model_validate(stored.document))
        )
