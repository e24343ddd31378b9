"""tasker.v1.TemplateService."""

from __future__ import annotations

from tasker.domain.errors import TemplateNotFoundError
from tasker.domain.templates.document import Template
from tasker.orchestration.services import parse, render
from tasker.persistence.templates import TemplateStore
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import templates_pb2, templates_pb2_grpc


class TemplateService(templates_pb2_grpc.TemplateServiceServicer):
    """Shows what is registered."""

    def __init__(self, store: TemplateStore) -> None:
        self._store = store

    async def ListTemplates(
        self, request: templates_pb2.ListTemplatesRequest, context: ServicerContext
    ) -> templates_pb2.ListTemplatesResponse:
        """Return the templates, of one namespace if asked; namespaces and the total are those of all."""
        namespace = parse.namespace(request)
        namespaces = await self._store.namespaces()
        return templates_pb2.ListTemplatesResponse(
            namespaces=[render.namespace_summary(summary) for summary in namespaces],
            templates=[
                render.template_summary(summary) for summary in await self._store.summaries(namespace)
            ],
            total_count=sum(summary.template_count for summary in namespaces),
        )

    async def GetTemplate(
        self, request: templates_pb2.GetTemplateRequest, context: ServicerContext
    ) -> templates_pb2.GetTemplateResponse:
        """Return a template version; an empty version means the highest one."""
        key = namespace, name, _ = parse.template_key(request)
        stored = await self._store.find(*key)
        if stored is None:
            raise TemplateNotFoundError(*key, await self._store.versions(namespace, name))
        return templates_pb2.GetTemplateResponse(
            template=render.template(Template.model_validate(stored.document))
        )
