"""tasker.v1.TemplateService."""

from __future__ import annotations

from tasker.domain.templates.document import Template
from tasker.orchestration.services import parse, render
from tasker.orchestration.services.paging import PageTokens
from tasker.orchestration.services.sizing import REPLY_BYTES, fitting
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

        Namespaces and their total are those of all. A reply ends where a client would read no more, be it that of a
        page or of all; the next one is a page then.
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
        reply = templates_pb2.ListTemplatesResponse(
            namespaces=[render.namespace_summary(summary) for summary in found.namespaces],
            total_count=found.count(),
        )
        wanted = found.templates[: page.limit] if paged else found.templates
        reply.templates.extend(fitting(map(render.template_summary, wanted), REPLY_BYTES - reply.ByteSize()))
        templates = found.templates[: len(reply.templates)]
        more = len(templates) < len(found.templates)
        if paged or more:
            reply.pagination.CopyFrom(
                listing.reply(page, found.count(namespace), templates, more=more, key=_place)
            )
        return reply

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
